use super::*;
use crate::schema::{MIGRATIONS, migrate};
use pushbutton_core::{Buildset, samples};

const DAY: i64 = 24 * 3600 * 1000;
const UNPUBLISHED: &str = "it was not run: no such job was published";

fn file() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection, MIGRATIONS).unwrap();
    connection
}

/// Two jobs of one event on this change.
fn jobs(change: u64) -> [Job; 2] {
    let jobs = ["tempest", "unit"].map(|name| samples::job_on(change, name));
    let buildset = Buildset::of(&jobs[0].cause.event, jobs.iter().map(|job| job.name.clone()));
    jobs.map(|job| job.with_buildset(buildset.clone()))
}

fn finish(connection: &Connection, job: &Job) {
    end_job(connection, job, JobEnd::Finished { result: Box::new(samples::success(job)) }).unwrap();
}

fn age(connection: &Connection, by: i64) {
    connection.execute("UPDATE buildsets SET at = at - ?", params![by]).unwrap();
}

fn add(connection: &Connection, state: &str, job: &str) {
    let sql = "INSERT INTO jobs (id, state, name, job) VALUES (hex(randomblob(8)), ?, 'unit', ?)";
    connection.execute(sql, params![state, job]).unwrap();
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn only_report(connection: &Connection) -> BuildsetReport {
    let report = |row: &Row<'_>| row.get::<_, Json<BuildsetReport>>(0);
    let reports = connection.prepare("SELECT report FROM reports WHERE state = 'due'").unwrap();
    let mut reports = reports;
    let mut reports: Vec<_> = reports.query_map([], report).unwrap().map(|row| row.unwrap().0).collect();
    assert_eq!(reports.len(), 1, "{reports:?}");
    reports.remove(0)
}

#[test]
fn a_buildset_is_reported_after_a_day_without_a_job_that_was_never_published() {
    let mut connection = file();
    let [tempest, unit] = jobs(1);
    finish(&connection, &tempest);
    age(&connection, DAY - 60_000);
    assert_eq!(close_abandoned(&mut connection).unwrap(), 0);
    assert_eq!((count(&connection, "buildsets"), count(&connection, "reports")), (1, 0), "too young");
    age(&connection, 2 * 60_000);
    assert_eq!(close_abandoned(&mut connection).unwrap(), 1);
    let report = only_report(&connection);
    assert_eq!((&report.id, report.results.len()), (&tempest.buildset.id, 1));
    let missing: Vec<_> = report.missing.iter().map(|job| (&job.name, job.why.as_str())).collect();
    assert_eq!(missing, [(&unit.name, UNPUBLISHED)]);
    assert_eq!(report.vote(), None, "not every job has passed");
    assert_eq!(count(&connection, "buildsets"), 0);
    assert_eq!(close_abandoned(&mut connection).unwrap(), 0);
    assert_eq!(count(&connection, "reports"), 1);
}

#[test]
fn a_buildset_waits_as_long_as_a_job_of_it_is_in_the_queue() {
    let mut connection = file();
    let [tempest, unit] = jobs(1);
    finish(&connection, &tempest);
    age(&connection, 30 * DAY);
    let unit = serde_json::to_string(&unit).unwrap();
    for state in ["ready", "delayed", "leased"] {
        add(&connection, state, &unit);
        // What cannot be read belongs to no buildset.
        for damaged in ["{\"id\": 7", "{}", "7"] {
            add(&connection, state, damaged);
        }
        assert_eq!(close_abandoned(&mut connection).unwrap(), 0, "a job of it is {state}");
        connection
            .execute("UPDATE jobs SET state = 'done', job = NULL WHERE job = ?", params![unit])
            .unwrap();
    }
    assert_eq!(count(&connection, "buildsets"), 1);
    // A dead letter has ended in its buildset already, unless it could not be read.
    add(&connection, "dead", &unit);
    assert_eq!(close_abandoned(&mut connection).unwrap(), 1);
    assert_eq!(only_report(&connection).missing.len(), 1);
}

#[test]
fn each_change_of_a_buildset_lets_it_wait_for_another_day() {
    let mut connection = file();
    let [tempest, unit] = jobs(1);
    finish(&connection, &tempest);
    age(&connection, 2 * DAY);
    // It may not be known yet that the job waits again.
    assert_eq!(reopen(&connection, &unit).unwrap(), None);
    assert_eq!(close_abandoned(&mut connection).unwrap(), 0);
    age(&connection, 2 * DAY);
    assert_eq!(close_abandoned(&mut connection).unwrap(), 1);
}

#[test]
fn two_processes_that_close_at_once_make_one_report_of_each_buildset() {
    const BUILDSETS: u64 = 200;
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let mut connection = Connection::open(folder.path().join("x.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(20)).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        connection
    };
    let connection = open();
    connection.execute_batch("BEGIN").unwrap();
    for change in 0..BUILDSETS {
        finish(&connection, &jobs(change)[0]);
    }
    age(&connection, 2 * DAY);
    connection.execute_batch("COMMIT").unwrap();
    let start = std::sync::Barrier::new(4);
    let closed: usize = std::thread::scope(|scope| {
        let close = || {
            let mut connection = open();
            start.wait();
            close_abandoned(&mut connection).unwrap()
        };
        let closing: Vec<_> = (0..4).map(|_| scope.spawn(close)).collect();
        closing.into_iter().map(|closing| closing.join().unwrap()).sum()
    });
    assert_eq!(closed, BUILDSETS as usize);
    assert_eq!((count(&connection, "buildsets"), count(&connection, "reports")), (0, BUILDSETS as i64));
}

#[test]
fn open_buildsets_of_an_older_file_wait_from_its_migration_on() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection, &MIGRATIONS[..2]).unwrap();
    let [tempest, _] = jobs(1);
    let mut open = OpenBuildset::new(tempest.buildset.clone());
    open.end(tempest.name.clone(), JobEnd::Finished { result: Box::new(samples::success(&tempest)) });
    let sql = "INSERT INTO buildsets (id, open) VALUES (?, ?)";
    connection.execute(sql, params![tempest.buildset.id.as_str(), Json(open)]).unwrap();
    migrate(&mut connection, MIGRATIONS).unwrap();
    assert_eq!(close_abandoned(&mut connection).unwrap(), 0);
    age(&connection, DAY + 60_000);
    assert_eq!(close_abandoned(&mut connection).unwrap(), 1);
    assert_eq!(only_report(&connection).id, tempest.buildset.id);
}

#[test]
fn a_buildset_that_cannot_be_read_lets_its_jobs_end_and_is_set_aside() {
    let other = samples::job("other").buildset;
    let other = serde_json::to_string(&OpenBuildset::new(other)).unwrap();
    for damaged in ["{\"buildset\": ", "{}", &other] {
        let mut connection = file();
        let [tempest, unit] = jobs(1);
        let damage = || connection.execute("UPDATE buildsets SET open = ?", params![damaged]).unwrap();
        finish(&connection, &tempest);
        damage();
        finish(&connection, &unit);
        damage();
        let requeued = reopen(&connection, &unit).unwrap().expect("the job gets a buildset of its own");
        assert_ne!(requeued.buildset.id, unit.buildset.id);
        age(&connection, 2 * DAY);
        assert_eq!(close_abandoned(&mut connection).unwrap(), 1);
        assert_eq!(count(&connection, "buildsets"), 0);
        let (state, kept, why): (String, String, String) = connection
            .query_row("SELECT state, report, why FROM reports", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!((state.as_str(), kept.as_str()), ("undelivered", damaged));
        assert!(why.starts_with("cannot be read: "), "{why}");
    }
}
