//! What Gerrit's REST says of a change's comments.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pushbutton_gerrit::fuzz::rest_reply(bytes));
