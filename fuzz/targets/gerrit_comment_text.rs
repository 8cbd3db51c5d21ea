//! A comment as Gerrit shows it, with its header.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pushbutton_gerrit::fuzz::comment_text(bytes));
