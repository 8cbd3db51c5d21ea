//! A stream of test results, from the machine that ran the patch.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pushbutton_ansible::fuzz::subunit_stream(bytes));
