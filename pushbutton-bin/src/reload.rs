//! Reload: what can be applied of a configuration that has changed is applied while the process runs. If anything of it
//! cannot be, all of it is refused, and the process goes on with the old one.

use std::path::Path;

use jiff::Timestamp;
use pushbutton_core::{ConfigHealth, Result, Shutdown};
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use crate::config::{self, Changes, Config, ConfigErrors, Files, Source};
use crate::file_watch::FileWatch;

/// Replaces what a part goes by. It does not fail.
pub(crate) type Apply = Box<dyn FnOnce() + Send>;

/// Makes from a configuration what a part will go by. Changes nothing yet, so that all parts change or none.
pub(crate) type Prepare = Box<dyn Fn(&Config, &Changes) -> Result<Apply> + Send + Sync>;

/// The keys of a change that a log line names.
const SHOWN: usize = 20;

/// Reads the configuration again when it has changed, or when a person asks for it by SIGHUP.
pub(crate) struct Reload {
    /// What the process runs with.
    source: Source,
    /// The files as they were last read, whether they were applied or refused.
    files: Files,
    parts: Vec<Prepare>,
    health: watch::Sender<ConfigHealth>,
    hangup: Signal,
}

impl Reload {
    /// Of a process that runs with this configuration.
    pub(crate) fn new(
        config: &Config,
        parts: Vec<Prepare>,
        health: watch::Sender<ConfigHealth>,
        hangup: Signal,
    ) -> Self {
        let (source, files) = (config.source.clone(), config.source.files.clone());
        Self { source, files, parts, health, hangup }
    }

    /// Reloads until the shutdown.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let (mut is_asked, mut complained) = (false, None);
        loop {
            // Before the files are read: what changes meanwhile is noticed, too.
            let watch = FileWatch::new(&self.files.paths);
            if let Err(error) = &watch
                && complained != Some(error.kind())
            {
                tracing::warn!(
                    "changes of the configuration are not noticed, send SIGHUP after each: {error}"
                );
                complained = Some(error.kind());
            }
            let before = self.files.clone();
            // It has not panicked: a panic of this thread would end the reload only.
            let Ok(now) = tokio::task::spawn_blocking(move || before.reread()).await else { return };
            if std::mem::take(&mut is_asked) || now != self.files {
                self.reload().await;
                continue;
            }
            let changed = async {
                match &watch {
                    Ok(watch) => watch.changed().await,
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.begun() => return,
                _ = self.hangup.recv() => is_asked = true,
                changed = changed => if let Err(error) = changed {
                    tracing::warn!("changes of the configuration are not noticed any more: {error}");
                    tokio::select! {
                        () = shutdown.begun() => return,
                        _ = self.hangup.recv() => is_asked = true,
                    }
                },
            }
        }
    }

    /// Reads the configuration, and applies or refuses it.
    async fn reload(&mut self) {
        let (file, needs) = (self.source.file.clone(), self.source.needs);
        let read = move || config::load_with_files(&file, needs);
        let Ok((config, files)) = tokio::task::spawn_blocking(read).await else {
            tracing::error!("the configuration could not be read: this is a bug");
            return;
        };
        self.files = files;
        let file = self.source.file.display().to_string();
        match config.and_then(|config| self.apply(config)) {
            Ok(keys) if keys.is_empty() => tracing::info!("{file} says what this process runs with already"),
            Ok(keys) => {
                let more = keys.len().saturating_sub(SHOWN);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let shown = keys.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
                tracing::info!("{file} is reloaded; changed: {shown}{more}");
            }
            Err(errors) => {
                self.refuse(&errors);
                return;
            }
        }
        self.health.send_replace(ConfigHealth::new(Timestamp::now()));
    }

    /// Applies a configuration. Returns the keys that have changed.
    fn apply(&mut self, config: Config) -> std::result::Result<Vec<String>, ConfigErrors> {
        let (file, needs) = (self.source.file.as_path(), self.source.needs);
        let changes = Changes::between(&self.source, &config.source);
        changes.check(needs, file)?;
        let prepared: Result<Vec<Apply>> = self.parts.iter().map(|part| part(&config, &changes)).collect();
        let prepared = prepared.map_err(|error| unusable(file, &error))?;
        let keys = changes.keys(needs).into_iter().map(str::to_owned).collect();
        prepared.into_iter().for_each(|apply| apply());
        self.source = config.source;
        Ok(keys)
    }

    fn refuse(&self, errors: &ConfigErrors) {
        let lines: Vec<String> = errors.lines().collect();
        for line in &lines {
            tracing::error!("the configuration is not reloaded: {line}");
        }
        let applied = self.health.borrow().applied;
        tracing::warn!("this process goes on with the configuration of {applied:.0}");
        let mut why = lines.first().cloned().unwrap_or_default();
        if lines.len() > 1 {
            why.push_str(&format!(" (and {} more: see its log)", lines.len() - 1));
        }
        self.health.send_modify(|health| health.refused = Some(why));
    }
}

/// A part cannot be made from a configuration that has no error of its own.
fn unusable(file: &Path, error: &pushbutton_core::Error) -> ConfigErrors {
    config::whole_file(file, error.to_string(), "fix it, or undo the change".to_owned())
}
