use super::*;
use pushbutton_core::check::Level;

fn hello(product: &str, version: &str) -> Vec<u8> {
    let mut bytes = b"\x01\0\0\0\0\x01\xf4\0\x0a\0\x0a\0\x09".to_vec();
    for (key, value) in [("product", product), ("version", version)] {
        bytes.push(key.len() as u8);
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(b'S');
        bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes
}

#[test]
fn the_version_is_read_and_judged() {
    let level = |product, version| judge("here", &hello(product, version)).level;
    assert_eq!(level("RabbitMQ", "3.10.8"), Level::Ok);
    assert_eq!(level("RabbitMQ", "4.1.0-rc.1"), Level::Ok);
    assert_eq!(level("RabbitMQ", "3.9.27"), Level::Fail);
    assert_eq!(level("LavinMQ", "2.0.0"), Level::Warn);
    assert_eq!(judge("here", b"SSH-2.0-OpenSSH_9.2\r\n").level, Level::Fail);
    let mut cut = hello("RabbitMQ", "3.10.8");
    cut.truncate(cut.len() - 3);
    assert_eq!(judge("here", &cut).level, Level::Fail);
}
