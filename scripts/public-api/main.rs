//! Prints the public API that a file of rustdoc's JSON describes, one item a line. What every type has (blanket and auto trait
//! implementations) is left out. Of a derived implementation only its head is shown: a `Clone` that goes is a break, its method is no news.

use std::collections::HashSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let json = std::env::args_os().nth(1).ok_or("which file?")?;
    let builder =
        public_api::Builder::from_rustdoc_json(json).omit_blanket_impls(true).omit_auto_trait_impls(true);
    let written = builder.clone().omit_auto_derived_impls(true).build()?;
    let written: HashSet<String> = written.items().map(ToString::to_string).collect();
    for item in builder.build()?.items() {
        let item = item.to_string();
        if written.contains(&item) || item.starts_with("impl") && !item.contains("::StructuralPartialEq ") {
            println!("{item}");
        }
    }
    Ok(())
}
