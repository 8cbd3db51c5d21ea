//! What the callback plugin tells of a stage: the node had a hand in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pushbutton_ansible::fuzz::callback_stream(bytes));
