//! A configuration file. Whatever it contains, each error has a line of it, and the list can be printed.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the command uses the rest of these modules")]

#[path = "../../pushbutton-bin/src/config/mod.rs"]
mod config;
#[path = "../../pushbutton-bin/src/mail.rs"]
mod mail;

use std::path::Path;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(errors) =
        config::parse(text, Path::new("/nonexistent/pushbutton.yml"), config::Needs::ALL, &|_| None)
    {
        let lines = text.lines().count().max(1);
        assert!(!errors.list.is_empty());
        assert!(errors.list.iter().all(|error| (1..=lines).contains(&error.line)), "{errors}");
        assert!(errors.to_string().contains("nothing was started"));
    }
});
