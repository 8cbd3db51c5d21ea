//! `init --compose`: writes a folder for docker-compose. `deploy/compose/README.md` tells the rest.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use pushbutton_core::{Error, ErrorKind};

use crate::config::DEFAULT;
use crate::exit::Exit;
use crate::print::print;

/// The file of deploy/compose.
const COMPOSE: &str = include_str!("compose/docker-compose.yml");

/// The file of deploy/compose, here `.env`.
const ENVIRONMENT: &str = include_str!("compose/env");

/// What differs from the configuration that `init` writes: the places in a container, and the broker.
/// Containers see no variable of the host, so the file asks for none.
const CHANGES: [(&str, &str); 14] = [
    ("\"${PUSHBUTTON_OWNER:-}\"", "\"\""),
    ("${PUSHBUTTON_STATE:-./state}", "/var/lib/pushbutton"),
    ("  host: ${GERRIT_HOST:-review.opendev.org}\n", "  host: review.opendev.org\n"),
    ("${GERRIT_USER:-acme-ci}", "acme-ci"),
    ("https://${GERRIT_HOST:-review.opendev.org}\n", "https://review.opendev.org\n"),
    ("  key: ${GERRIT_KEY:-~/.ssh/id_ed25519}\n", "  key: /run/secrets/gerrit-key\n"),
    (
        "  host_key: {}\n    # known_hosts: ./known_hosts\n",
        "  host_key:\n    known_hosts: /run/secrets/gerrit-known-hosts\n",
    ),
    (
        "# rabbitmq:\n#   url: amqps://pushbutton:${RABBITMQ_PASSWORD}@rabbit.example.org:5671/%2f\n",
        "rabbitmq:\n  url: amqp://pushbutton:${file:/run/secrets/rabbitmq-password}@rabbitmq:5672/%2f\n",
    ),
    ("${CLOUDS_FILE:-./clouds.yaml}", "/run/secrets/clouds.yaml"),
    (
        "      # key_file: ~/.ssh/id_ed25519\n      # networks",
        "      key_file: /run/secrets/node-key\n      # networks",
    ),
    ("  playbooks: ./playbooks\n", "  playbooks: /usr/share/pushbutton/playbooks\n"),
    ("${PUSHBUTTON_LOGS:-./logs}", "/var/log/pushbutton"),
    ("# web:\n#   listen: 127.0.0.1:8080\n", "web:\n  listen: 0.0.0.0:8080\n"),
    (
        "It has no login: use a loopback address, or a proxy with a login.\n",
        "It has no login: .env says where the host shows it.\n",
    ),
];

/// Secrets that people put in: the files are there and empty, so that the mode of the copy is that of the file here.
const EMPTY: [&str; 4] = ["gerrit-key", "gerrit-known-hosts", "clouds.yaml", "node-key"];

/// Containers read these as a user that the host does not know. There the folder keeps everybody else from the secrets.
const FILE: u32 = 0o644;
const SECRETS_FOLDER: u32 = 0o700;

/// Writes the folder. Nothing that exists is overwritten, and then nothing is written at all.
pub(crate) fn init(folder: &Path) -> anyhow::Result<Exit> {
    let password = password()?;
    let mut files = vec![
        ("docker-compose.yml".to_owned(), COMPOSE.to_owned()),
        (".env".to_owned(), ENVIRONMENT.to_owned()),
        ("pushbutton.yml".to_owned(), configuration()),
        ("secrets/rabbitmq-password".to_owned(), format!("{password}\n")),
        (
            "secrets/rabbitmq.conf".to_owned(),
            format!("default_user = pushbutton\ndefault_pass = {password}\n"),
        ),
    ];
    files.extend(EMPTY.map(|name| (format!("secrets/{name}"), String::new())));
    if let Some((name, _)) = files.iter().find(|(name, _)| folder.join(name).symlink_metadata().is_ok()) {
        let exists = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        return Err(refused(&folder.join(name), &exists).into());
    }
    std::fs::create_dir_all(folder).map_err(|error| refused(folder, &error))?;
    let secrets = folder.join("secrets");
    match DirBuilder::new().mode(SECRETS_FOLDER).create(&secrets) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(refused(&secrets, &error).into());
        }
        _ => {}
    }
    for (name, text) in files {
        let path = folder.join(name);
        write(&path, &text).map_err(|error| refused(&path, &error))?;
    }
    let shown = folder.display();
    print(format!(
        "Wrote {shown}: docker-compose.yml, .env, pushbutton.yml, secrets/.\n\n\
         Next, in {shown}:\n  \
         1. edit .env and pushbutton.yml: every key is explained there\n  \
         2. put into secrets/, with cp or an editor: gerrit-key, gerrit-known-hosts, clouds.yaml, node-key\n  \
         3. docker-compose build\n  \
         4. docker-compose run --rm handler check --handler\n     \
            docker-compose run --rm operator check --operator\n  \
         5. docker-compose up -d\n\n\
         With Compose v2 it is `docker compose`. deploy/compose/README.md tells the rest."
    ));
    Ok(Exit::Ok)
}

fn refused(path: &Path, error: &std::io::Error) -> Error {
    let remedy = match error.kind() {
        std::io::ErrorKind::AlreadyExists => "nothing was written: name another folder, or move it away",
        _ => "check the folder's permissions",
    };
    Error::permanent(ErrorKind::Config, format!("cannot write {}: {error}; {remedy}", path.display()))
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    // Whatever the umask takes away.
    file.set_permissions(Permissions::from_mode(FILE))?;
    file.write_all(text.as_bytes())
}

/// The configuration that `init` writes, with [`CHANGES`].
fn configuration() -> String {
    CHANGES.iter().fold(DEFAULT.to_owned(), |text, (from, to)| text.replacen(from, to, 1))
}

/// The broker's: letters and digits, because it stands in a URL.
fn password() -> std::io::Result<String> {
    let mut bytes = [0; 24];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_of_one_place_of_the_default_configuration() {
        for (from, _) in CHANGES {
            assert_eq!(DEFAULT.matches(from).count(), 1, "{from}");
        }
    }

    #[test]
    fn no_line_asks_for_a_variable_that_a_container_does_not_have() {
        let text = configuration();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let asking: Vec<_> =
            lines.filter(|line| line.replace("${file:/run/secrets/", "").contains("${")).collect();
        assert!(asking.is_empty(), "{asking:?}");
    }
}
