//! Writes the folder of a run that failed, with all its pages, as a sample: `cargo run -p pushbutton-results --example
//! sample_pages -- FOLDER`. `docs/` has screenshots of it.

#![allow(clippy::print_stdout, reason = "an example has something to show")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use pushbutton_core::{
    Job, LogLocation, Reporter, RunId, RunResult, StageOutcome, StageResult, StageStatus, Update, UpdateKind,
    Verdict, samples,
};
use pushbutton_results::{CONSOLE_LOG, KnownResults, RunPages};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).ok_or("name a folder")?;
    println!("{}", write_sample(folder.into()).await?.join("index.html").display());
    Ok(())
}

/// Writes the run's folder below this one, and returns its path.
pub async fn write_sample(folder: PathBuf) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let logs = LogLocation::new(folder).with_url("https://logs.ci.example.org".to_owned());
    let (job, run) = (samples::job("cinder-tempest"), RunId::new("0199b3a2-79b0-7cc3-98c4-dc0c0c07398f")?);
    let pages = RunPages::new(logs.clone());
    let place = logs.of(&run, &job);
    let stages =
        [("prepare-node", 48), ("install-devstack", 612), ("run-tempest", 1494), ("gather-logs", 21)];

    std::fs::create_dir_all(place.dir.join("logs/etc"))?;
    let known = KnownResults::of(&place.dir);
    std::fs::write(place.dir.join("tempest.xml"), report())?;
    let tests = known.read_new(&place.dir, &str::to_owned);
    let page = tests.write_page(&place.dir)?;
    let mut files =
        vec![("local.conf", 840), ("environment.txt", 1200), ("patchset.txt", 600), ("tempest.txt", 90_000)];
    files.extend([
        ("logs/c-api.txt.gz", 410_000),
        ("logs/c-vol.txt.gz", 320_000),
        ("logs/etc/cinder.conf.gz", 900),
    ]);
    for (name, size) in files {
        std::fs::write(place.dir.join(name), "x".repeat(size))?;
    }
    std::fs::write(place.dir.join(CONSOLE_LOG), console(&stages))?;

    let tell = async |kind: UpdateKind, after: i64| {
        let at = samples::AT + pushbutton_core::jiff::SignedDuration::from_secs(after);
        pages.report(&update(&job, &run, kind, at)).await
    };
    tell(UpdateKind::Started, 0).await?;
    tell(
        UpdateKind::NodeReady {
            name: "pushbutton-cinder-tempest-12345-2".into(),
            address: "192.0.2.7".into(),
        },
        95,
    )
    .await?;
    let (mut now, mut results) = (96, Vec::new());
    for (name, seconds) in stages {
        tell(UpdateKind::StageStarted { stage: name.parse()? }, now).await?;
        now += seconds;
        let took = Duration::from_secs(seconds.unsigned_abs());
        let outcome = match name {
            "run-tempest" => StageOutcome::new(StageStatus::Failed, took)
                .with_detail(Some("task \"run-tempest : Run tempest\" on node: 2 tests failed".to_owned()))
                .with_tests(tests.counts)
                .with_failed_tests(tests.failed.clone())
                .with_slowest_tests(tests.slowest.clone())
                .with_test_page(page.clone()),
            _ => StageOutcome::new(StageStatus::Passed, took),
        };
        tell(UpdateKind::StageEnded { stage: name.parse()?, outcome: outcome.clone() }, now).await?;
        results.push(StageResult::new(name.parse()?, outcome));
    }
    let verdict = Verdict::Failure { stage: "run-tempest".parse()? };
    let took = Duration::from_secs(now.unsigned_abs());
    let result = RunResult::new(run.clone(), job.clone(), verdict, samples::AT, took)
        .with_stages(results)
        .with_tests(tests.counts)
        .with_reason(Some(
            "run-tempest: 2 tests failed, the first of them test_volume_create_get_update_delete".to_owned(),
        ));
    tell(UpdateKind::Finished { result: Box::new(result) }, now).await?;
    Ok(place.dir)
}

fn update(job: &Job, run: &RunId, kind: UpdateKind, at: pushbutton_core::Timestamp) -> Update {
    Update::new(job.clone(), kind, at).with_run(run.clone())
}

const CLASS: &str = "tempest.api.volume.test_volumes_get.VolumesGetTest";
const FAILED: [&str; 2] =
    ["test_volume_create_get_update_delete", "test_volume_create_get_update_delete_from_image"];

fn report() -> String {
    let mut cases = String::new();
    for (n, name) in FAILED.iter().enumerate() {
        let _ = write!(
            cases,
            "<testcase classname='{CLASS}' name='{name}[id-{n}7fc1e3a]' time='{}.4'><failure>Traceback (most recent call last):\n  \
             File \"/opt/stack/tempest/tempest/common/waiters.py\", line 317, in wait_for_volume_resource_status\n    \
             raise exceptions.VolumeResourceBuildErrorException(\ntempest.exceptions.VolumeResourceBuildErrorException: volume \
             5b1c failed to build and is in ERROR status</failure></testcase>",
            71 + n * 40
        );
    }
    for n in 0..212 {
        let _ = write!(
            cases,
            "<testcase classname='tempest.api.volume.admin.Case{n:03}' name='test_it' time='{}.5'/>",
            n % 37
        );
    }
    for n in 0..9 {
        let _ = write!(
            cases,
            "<testcase classname='tempest.api.volume.Backup{n}' name='test_it'><skipped message='Cinder backup feature disabled'/></testcase>"
        );
    }
    format!("<testsuite>{cases}</testsuite>")
}

fn console(stages: &[(&str, i64)]) -> String {
    let mut text = String::new();
    let mut line = |second: usize, words: &str| {
        let _ = writeln!(text, "2026-11-23 12:{:02}:{:02}.123 | {words}", second / 60 % 60, second % 60);
    };
    for (n, (name, _)) in stages.iter().enumerate() {
        let at = 96 + n * 300;
        line(
            at,
            &format!(
                "pushbutton: stage {name} begins: {}.yml of job cinder-tempest for 12345,2",
                name.replace('-', "_")
            ),
        );
        line(at, "PLAY [nodes] *********************************************************************");
        if *name == "run-tempest" {
            for test in 0..40 {
                line(
                    at + test,
                    &format!(
                        "node | {{0}} tempest.api.volume.admin.Case{test:03}.test_it [{test}.500000s] ... ok"
                    ),
                );
            }
            for test in FAILED {
                line(at + 60, &format!("node | {{1}} {CLASS}.{test} [71.400000s] ... FAILED"));
            }
            line(at + 61, "fatal: [node]: FAILED! => {\"changed\": true, \"rc\": 1}");
        }
        line(at + 62, "PLAY RECAP ***********************************************************************");
        line(
            at + 62,
            &format!(
                "pushbutton: stage {name} ended: {}",
                if *name == "run-tempest" { "Failed" } else { "Passed" }
            ),
        );
    }
    text
}
