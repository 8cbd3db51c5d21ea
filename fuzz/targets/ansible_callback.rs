//! The events that the callback plugin writes: the tested node can influence them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pushbutton_ansible::fuzz::playbook_events(bytes));
