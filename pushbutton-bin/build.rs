//! Links the program with compact relocations (DT_RELR): it is smaller on disk and in memory, because the program is
//! position-independent and has tens of thousands of pointers that are relocated at its start.
//!
//! glibc understands them since 2.36, so a program that was linked so does not start with an older one: it is done only
//! where the machine that builds has such a glibc, as Debian 12. A static program carries its own.

use std::process::Command;

/// Major and minor number.
const FIRST_GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let is_glibc = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    let is_native = std::env::var("HOST").is_ok_and(|host| is("TARGET", &host));
    if is_glibc && is_native && glibc().is_some_and(|version| version >= FIRST_GLIBC) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc.
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let (major, minor) =
        std::str::from_utf8(&said.stdout).ok()?.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
