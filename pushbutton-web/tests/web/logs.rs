//! The log folder over HTTP: readable in a browser, and nothing but what lies in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::server::{Answer, Runs, Server};
use tokio::io::AsyncReadExt;

/// `gzip -n` of "tempest passed\n".
const GZIPPED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x2b\x49\xcd\x2d\x48\x2d\x2e\x51\x28\x48\x2c\x2e\x4e\x4d\xe1\x02\x00\x19\x45\xbc\x11\x0f\x00\x00\x00";

const TEXT: &str = "text/plain; charset=utf-8";

async fn server(files: &[(&str, &[u8])]) -> Server {
    let server = Server::with(Runs(Some(Vec::new()))).await;
    for (name, content) in files {
        let path = server.logs().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    server
}

fn assert_sandboxed(answer: &Answer) {
    assert_eq!(answer.header("content-security-policy"), "sandbox; default-src 'none'");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn a_log_is_shown_as_text_whatever_it_claims_to_be() {
    let script = b"<html><script>alert(1)</script>";
    let server =
        server(&[("1/console.log", b"hello\n"), ("1/index.html", script), ("1/evil.svg", script)]).await;
    for (path, content) in [("console.log", &b"hello\n"[..]), ("index.html", script), ("evil.svg", script)] {
        let answer = server.get(&format!("/logs/1/{path}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, TEXT), "{path}");
        assert_eq!(answer.body, content, "{path}");
        assert_sandboxed(&answer);
    }
}

#[tokio::test]
async fn bytes_are_a_download() {
    let server = server(&[("core.dump", b"\x7fELF\x00\x01"), ("logs.tar.gz", GZIPPED)]).await;
    for path in ["/logs/core.dump", "/logs/logs.tar.gz"] {
        let answer = server.ask("GET", path, "accept-encoding: gzip\r\n").await;
        assert_eq!(answer.header("content-type"), "application/octet-stream", "{path}");
        assert_eq!(answer.header("content-disposition"), "attachment", "{path}");
        assert_eq!(answer.header("content-encoding"), "", "{path}");
        assert_sandboxed(&answer);
    }
}

#[tokio::test]
async fn a_compressed_log_is_shown_as_the_text_it_holds_by_either_name() {
    let server = server(&[("console.html.gz", GZIPPED), ("not-really.gz", b"plain")]).await;
    for path in ["/logs/console.html.gz", "/logs/console.html"] {
        let answer = server.ask("GET", path, "accept-encoding: br, gzip\r\n").await;
        assert_eq!(
            (answer.header("content-type"), answer.header("content-encoding")),
            (TEXT, "gzip"),
            "{path}"
        );
        assert_eq!(answer.body, GZIPPED, "{path}");
        // Who cannot unpack it gets the file.
        let answer = server.get(path).await;
        assert_eq!(answer.header("content-type"), "application/octet-stream", "{path}");
        assert_eq!(
            (answer.header("content-encoding"), answer.header("vary")),
            ("", "accept-encoding"),
            "{path}"
        );
    }
    let plain = server.ask("GET", "/logs/not-really.gz", "accept-encoding: gzip\r\n").await;
    assert_eq!((plain.header("content-encoding"), plain.text().as_str()), ("", "plain"));
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder() {
    let server = server(&[("1/console.log", b"hello")]).await;
    fs::write(server.outside().join("secret.txt"), "secret").unwrap();
    fs::create_dir(server.outside().join("logs-of-others")).unwrap();
    fs::write(server.outside().join("logs-of-others/x"), "secret").unwrap();
    let absolute = format!("/logs/{}", server.outside().join("secret.txt").display());
    for path in [
        "/logs/../secret.txt",
        "/logs/1/../../secret.txt",
        "/logs/%2e%2e/secret.txt",
        "/logs/..%2fsecret.txt",
        "/logs/1/..%2f..%2fsecret.txt",
        "/logs/..%5csecret.txt",
        "/logs/%2e%2e%2fsecret.txt",
        "/logs/.%2e/secret.txt",
        "/logs/../logs-of-others/x",
        "/logs/console.log%00.txt",
        "/logs//etc/passwd",
        "/logs/%2fetc%2fpasswd",
        "/logs/%ff",
        &absolute,
    ] {
        let answer = server.get(path).await;
        assert!(answer.status == 404 || answer.status == 400, "{path}: {answer:?}");
        assert!(!answer.text().contains("secret") && !answer.text().contains("root:"), "{path}");
    }
}

#[tokio::test]
async fn a_symbolic_link_leads_nowhere_but_within() {
    let server = server(&[("1/console.log", b"hello"), (".hidden/key", b"secret")]).await;
    fs::write(server.outside().join("secret.txt"), "secret").unwrap();
    let link = |to: &str, name: &str| symlink(to, server.logs().join(name)).unwrap();
    link("../secret.txt", "file");
    link("..", "folder");
    link("/etc", "etc");
    link(".hidden", "shown");
    link("loop", "loop");
    link("1", "latest");
    for path in ["file", "folder/", "folder/secret.txt", "etc/passwd", "shown/key", "loop", ".hidden/key"] {
        let answer = server.get(&format!("/logs/{path}")).await;
        assert_eq!((answer.status, answer.text().contains("secret")), (404, false), "{path}");
    }
    assert_eq!(server.get("/logs/latest/console.log").await.text(), "hello");
}

#[tokio::test]
async fn what_is_no_file_is_not_there() {
    let server = server(&[("1/console.log", b"hello")]).await;
    let pipe = server.logs().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Opening a pipe without a writer would wait forever.
    assert_eq!(server.get("/logs/pipe").await.status, 404);
    assert_eq!(server.get("/logs/1/console.log/x").await.status, 404);
    assert_eq!(server.get("/logs/1/no.log").await.status, 404);
    assert!(!server.get("/logs/").await.text().contains("pipe"));
}

#[tokio::test]
async fn a_folder_is_a_page_of_links() {
    let server =
        server(&[("1/a&b <i>.log", b"x"), ("1/sub/x", b"x"), ("1/.hidden", b"x"), ("1/50%.txt", b"x")]).await;
    let redirect = server.get("/logs/1").await;
    assert_eq!((redirect.status, redirect.header("location")), (308, "/logs/1/"));
    let answer = server.get("/logs/1/").await;
    let page = answer.text();
    assert!(page.contains("<a href=\"a%26b%20%3Ci%3E.log\">a&amp;b &lt;i&gt;.log</a>"), "{page}");
    assert!(page.contains("<a href=\"sub/\">sub/</a>") && !page.contains("hidden"), "{page}");
    assert!(page.find("sub/").unwrap() < page.find("a&amp;b").unwrap(), "folders come first");
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!(server.get("/logs/1/a%26b%20%3Ci%3E.log").await.text(), "x");
    assert_eq!(server.get("/logs/1/50%25.txt").await.text(), "x");
    assert!(server.get("/logs/").await.text().contains("<a href=\"1/\">1/</a>"));
}

#[tokio::test]
async fn a_file_with_a_colon_or_a_backslash_in_its_name_is_linked_and_shown() {
    // The name of a volume of iSCSI, of a unit of systemd, and what a browser takes for a scheme.
    let names = [
        ("iqn.2010-10.org.openstack:volume-1", "iqn.2010-10.org.openstack%3Avolume-1"),
        ("dev-disk-by\\x2dlabel.mount", "dev-disk-by%5Cx2dlabel.mount"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
    ];
    let server = server(&[("1/none.log", b"x")]).await;
    for (name, link) in names {
        fs::write(server.logs().join("1").join(name), name).unwrap();
        fs::create_dir(server.logs().join("1").join(format!("{name}.d"))).unwrap();
        fs::write(server.logs().join("1").join(format!("{name}.d/x:y")), name).unwrap();
        let page = server.get("/logs/1/").await.text();
        assert!(page.contains(&format!("<a href=\"{link}\">{name}</a>")), "{page}");
        assert_eq!(server.get(&format!("/logs/1/{link}")).await.text(), name);
        let redirect = server.get(&format!("/logs/1/{link}.d")).await;
        assert_eq!((redirect.status, redirect.header("location")), (308, &*format!("/logs/1/{link}.d/")));
        let page = server.get(&format!("/logs/1/{link}.d/")).await.text();
        assert!(page.contains("<a href=\"x%3Ay\">x:y</a>"), "{page}");
        assert!(page.contains(&format!("<a href=\"/logs/1/{link}.d/\">")), "{page}");
        assert_eq!(server.get(&format!("/logs/1/{link}.d/x%3Ay")).await.text(), name);
        assert_eq!(server.get(&format!("/logs/1/{name}")).await.text(), name, "as it is");
    }
}

#[tokio::test]
async fn a_log_larger_than_memory_is_streamed() {
    let server = server(&[]).await;
    let length: u64 = 64 << 30;
    // Sparse: it takes no space, and would never fit into memory.
    fs::File::create(server.logs().join("huge.log")).unwrap().set_len(length).unwrap();
    let head = server.ask("HEAD", "/logs/huge.log", "").await;
    assert_eq!((head.header("content-length"), head.body.len()), (length.to_string().as_str(), 0));
    let mut stream = server.send("GET", "/logs/huge.log", "").await;
    let mut first = vec![0; 4 << 20];
    stream.read_exact(&mut first).await.unwrap();
}

/// A folder of a run, with the pages that the operator writes.
const RUN: &str = "45/12345/2/tempest/r1";

fn assert_page(answer: &Answer, encoding: &str) {
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(answer.header("content-encoding"), encoding);
    let policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'";
    assert_eq!(answer.header("content-security-policy"), policy);
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn the_pages_of_a_run_are_rendered_without_scripts() {
    let path = |name: &str| format!("{RUN}/{name}");
    let server = server(&[
        (&path("index.html"), b"<h1>page</h1>"),
        (&path("console.html.gz"), GZIPPED),
        (&path("testr_results-2.html.gz"), GZIPPED),
        (&path("logs/testr_results.html.gz"), GZIPPED),
    ])
    .await;
    for page in [format!("/logs/{RUN}/"), format!("/logs/{RUN}/index.html")] {
        let answer = server.get(&page).await;
        assert_page(&answer, "");
        assert_eq!(answer.body, b"<h1>page</h1>");
    }
    for page in ["console.html.gz", "testr_results-2.html.gz", "logs/testr_results.html.gz"] {
        let answer = server.ask("GET", &format!("/logs/{RUN}/{page}"), "accept-encoding: gzip\r\n").await;
        assert_page(&answer, "gzip");
        assert_eq!(answer.body, GZIPPED, "{page}");
    }
    let without_slash = server.get(&format!("/logs/{RUN}")).await;
    assert_eq!(without_slash.header("location"), format!("/logs/{RUN}/"));
}

#[tokio::test]
async fn what_only_has_the_name_of_a_page_is_text() {
    let script = b"<script>alert(1)</script>";
    let names = ["logs/index.html", "logs/console.html", "page.html", "logs/deep/testr_results.html"];
    let paths = names.map(|name| format!("{RUN}/{name}"));
    let files: Vec<(&str, &[u8])> = paths.iter().map(|path| (path.as_str(), script.as_slice())).collect();
    let server = server(&files).await;
    for path in &paths {
        let answer = server.get(&format!("/logs/{path}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, TEXT), "{path}");
        assert_sandboxed(&answer);
    }
    // Without a page of its own the folder is listed; a link in the place of the page is not followed.
    symlink("page.html", server.logs().join(RUN).join("index.html")).unwrap();
    let listing = server.get(&format!("/logs/{RUN}/")).await;
    assert!(listing.text().contains("page.html</a>"), "{}", listing.text());
}
