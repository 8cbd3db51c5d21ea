//! A stream of test results, from the machine that ran the patch.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pushbutton_results::fuzz::subunit_stream(bytes));
