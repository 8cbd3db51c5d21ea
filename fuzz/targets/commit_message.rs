//! A commit message with `Depends-On:` footers.
#![no_main]

use pushbutton_core::dependency::{DependsOn, MAX_DEPENDENCIES, footers};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let message = String::from_utf8_lossy(bytes);
    let found = footers(&message);
    assert!(found.len() <= MAX_DEPENDENCIES);
    for footer in found {
        match footer {
            DependsOn::Url { server, change } => {
                assert!(message.to_ascii_lowercase().contains(&server) && change.0 > 0);
            }
            DependsOn::Id(id) => assert!(message.contains(id.as_str())),
            DependsOn::Other(value) => assert!(message.contains(&value)),
            _ => {}
        }
    }
});
