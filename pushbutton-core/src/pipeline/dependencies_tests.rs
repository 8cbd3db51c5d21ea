use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::memory::MemoryChanges;
use crate::names::{ChangeId, PatchsetNumber, Revision};
use crate::traits::PatchsetCommit;

/// The commit of a patch set. The first digit keeps it apart from all that was never under review.
fn revision(change: u64, patchset: u32) -> Revision {
    format!("c{change:030x}{patchset:09x}").parse().unwrap()
}

/// A commit of the branch, which was never under review.
fn base() -> Revision {
    "b".repeat(40).parse().unwrap()
}

fn patchset(change: u64, number: u32) -> Patchset {
    let git_ref = format!("refs/changes/00/{change}/{number}").parse().unwrap();
    Patchset::new(PatchsetNumber(number), revision(change, number), git_ref)
}

/// An open change of openstack/p with one patch set on the branch's head.
fn change(number: u64) -> LinkedChange {
    on(number, "openstack/p", "master", &[base()])
}

fn on(number: u64, project: &str, branch: &str, parents: &[Revision]) -> LinkedChange {
    let url = format!("https://review.example.org/c/{project}/+/{number}");
    let change = Change::new(project.parse().unwrap(), branch.parse().unwrap(), ChangeNumber(number));
    LinkedChange::new(change.with_url(url), vec![PatchsetCommit::new(patchset(number, 1), parents.to_vec())])
}

/// The change with footers.
fn with(change: LinkedChange, footers: &[&str]) -> LinkedChange {
    let lines: String = footers.iter().map(|value| format!("Depends-On: {value}\n")).collect();
    change.with_message(format!("A change\n\n{lines}"))
}

fn url(change: u64) -> String {
    format!("https://review.example.org/{change}")
}

fn standing(mut change: LinkedChange, status: ChangeStatus) -> LinkedChange {
    change.change.status = status;
    change
}

/// Resolves the first of the changes.
async fn resolve(changes: Vec<LinkedChange>) -> Dependencies {
    let tested = changes.first().cloned().unwrap();
    let newest = tested.commits.last().unwrap().patchset.clone();
    resolve_dependencies(&MemoryChanges::of(changes), &tested.change, &newest).await.unwrap()
}

/// The dependencies in short: `p7` for a parent, `d7` for a footer.
fn short(found: &Dependencies) -> String {
    let word = |dependency: &Dependency| match dependency.kind {
        DependencyKind::Parent => format!("p{}", dependency.change),
        _ => format!("d{}", dependency.change),
    };
    assert_eq!(found.unmet, None);
    found.list.iter().map(word).collect::<Vec<_>>().join(" ")
}

async fn unmet(changes: Vec<LinkedChange>) -> String {
    let found = resolve(changes).await;
    assert_eq!(found.list, []);
    found.unmet.unwrap()
}

#[tokio::test]
async fn a_change_on_its_branch_has_no_dependencies() {
    assert_eq!(resolve(vec![change(1)]).await, Dependencies::default());
}

#[tokio::test]
async fn the_relation_chain_is_applied_from_its_beginning() {
    let chain = |number: u64| on(number, "openstack/p", "master", &[revision(number - 1, 1)]);
    let found = resolve(vec![chain(4), chain(3), chain(2), change(1)]).await;
    assert_eq!(short(&found), "p1 p2 p3");
    let first = found.list.first().unwrap();
    assert_eq!((first.patchset.0, &first.revision), (1, &revision(1, 1)));
    // The part of it that is merged is in the branch.
    let merged = standing(chain(2), ChangeStatus::Merged);
    assert_eq!(short(&resolve(vec![chain(4), chain(3), merged, change(1)]).await), "p3");
}

#[tokio::test]
async fn footers_are_followed_through_projects_and_relation_chains() {
    let found = resolve(vec![
        with(on(1, "openstack/p", "master", &[revision(2, 1)]), &[&url(3)]),
        with(change(2), &[&url(5)]),
        with(on(3, "openstack/q", "master", &[revision(4, 1)]), &[&url(5)]),
        on(4, "openstack/q", "master", &[base()]),
        on(5, "openstack/r", "stable/2026.1", &[base()]),
    ])
    .await;
    assert_eq!(short(&found), "d5 p2 p4 d3", "each once, and before what depends on it");
    assert_eq!(found.list.first().unwrap().branch.as_str(), "stable/2026.1");
}

#[tokio::test]
async fn a_parent_is_tested_in_the_patch_set_that_git_has_and_a_footer_in_the_newest() {
    let two = |number: u64| {
        let mut change = change(number);
        change.commits.push(PatchsetCommit::new(patchset(number, 2), vec![base()]));
        change
    };
    let found =
        resolve(vec![with(on(1, "openstack/p", "master", &[revision(2, 1)]), &[&url(3)]), two(2), two(3)])
            .await;
    assert_eq!(short(&found), "p2 d3");
    let patchsets: Vec<u32> = found.list.iter().map(|dependency| dependency.patchset.0).collect();
    assert_eq!(patchsets, [1, 2]);
    assert_eq!(found.notes, ["its parent is patch set 1 of change 2, which is not the newest"]);
}

#[tokio::test]
async fn both_parents_of_a_merge_are_followed() {
    let merge = on(1, "openstack/p", "master", &[revision(2, 1), revision(3, 1)]);
    assert_eq!(short(&resolve(vec![merge, change(2), change(3)]).await), "p2 p3");
}

#[tokio::test]
async fn merged_changes_are_skipped_with_all_that_they_depend_on() {
    let merged = standing(with(change(2), &[&url(3)]), ChangeStatus::Merged);
    assert_eq!(short(&resolve(vec![with(change(1), &[&url(2)]), merged, change(3)]).await), "");
}

/// An account that once reviewed a change may see it when it is private.
#[tokio::test]
async fn for_a_public_change_a_private_one_does_not_exist() {
    let private = |mut change: LinkedChange| {
        change.change.private = true;
        change
    };
    let tested = || with(on(1, "openstack/p", "master", &[revision(2, 1)]), &[&url(3)]);
    let hidden = || vec![private(change(2)), private(standing(change(3), ChangeStatus::Abandoned))];
    let found = resolve([vec![tested()], hidden()].concat()).await;
    assert_eq!(short(&found), "");
    assert!(found.notes[0].contains("there is no such change, or this account may not see it"), "{found:?}");

    let open = vec![private(tested()), private(change(2)), private(change(3))];
    assert_eq!(short(&resolve(open).await), "p2 d3");
}

#[tokio::test]
async fn an_abandoned_dependency_is_said_and_nothing_is_run() {
    let abandoned = || standing(change(3), ChangeStatus::Abandoned);
    let below = on(1, "openstack/p", "master", &[revision(3, 1)]);
    let through = vec![with(change(1), &[&url(2)]), with(change(2), &[&url(3)]), abandoned()];
    for changes in [vec![below, abandoned()], through] {
        assert_eq!(unmet(changes).await, "it depends on change 3, which is abandoned");
    }
}

#[tokio::test]
async fn a_circle_is_said_and_nothing_is_run() {
    let changes = vec![with(change(1), &[&url(2)]), with(change(2), &[&url(3)]), with(change(3), &[&url(2)])];
    assert_eq!(unmet(changes).await, "changes depend on each other in a circle: 2, 3, 2");
    let through_git = vec![on(1, "openstack/p", "master", &[revision(2, 1)]), with(change(2), &[&url(1)])];
    assert_eq!(unmet(through_git).await, "changes depend on each other in a circle: 1, 2, 1");
    let itself = resolve(vec![with(change(1), &[&url(1)])]).await;
    assert_eq!(
        (short(&itself).as_str(), itself.notes.as_slice()),
        ("", &["change 1 depends on itself".into()][..])
    );
}

#[tokio::test]
async fn a_diamond_is_no_circle() {
    let found = resolve(vec![
        with(change(1), &[&url(2), &url(3)]),
        with(change(2), &[&url(4)]),
        with(change(3), &[&url(4)]),
        change(4),
    ])
    .await;
    assert_eq!(short(&found), "d4 d2 d3");
}

#[tokio::test]
async fn an_id_names_the_open_changes_of_all_branches() {
    let id: ChangeId = format!("I{}", "5".repeat(40)).parse().unwrap();
    let named = |number: u64, branch: &str, status: ChangeStatus| LinkedChange {
        id: Some(id.clone()),
        ..standing(on(number, "openstack/q", branch, &[base()]), status)
    };
    let tested = || with(change(1), &[id.as_str()]);
    let (new, merged, abandoned) = (ChangeStatus::New, ChangeStatus::Merged, ChangeStatus::Abandoned);
    let found = resolve(vec![
        tested(),
        named(2, "master", new),
        named(3, "stable/2026.1", new),
        named(4, "stable/2025.2", merged),
        named(5, "stable/2025.1", abandoned),
    ])
    .await;
    assert_eq!(short(&found), "d2 d3");
    assert_eq!(
        short(&resolve(vec![tested(), named(4, "master", merged), named(5, "x", abandoned)]).await),
        ""
    );
    assert_eq!(
        unmet(vec![tested(), named(5, "master", abandoned)]).await,
        "it depends on change 5, which is abandoned"
    );
}

#[tokio::test]
async fn a_parent_under_review_for_several_branches_is_the_one_of_the_same_project_and_branch() {
    let same = |number: u64, project: &str, branch: &str| {
        let mut change = on(number, project, branch, &[base()]);
        change.commits = vec![PatchsetCommit::new(patchset(9, 1), vec![base()])];
        change
    };
    let tested = || on(1, "openstack/p", "master", &[revision(9, 1)]);
    let found = resolve(vec![
        tested(),
        same(2, "openstack/fork", "master"),
        same(3, "openstack/p", "stable/2026.1"),
        same(4, "openstack/p", "master"),
    ])
    .await;
    assert_eq!(short(&found), "p4");
    let merged = standing(same(3, "openstack/p", "stable/2026.1"), ChangeStatus::Merged);
    assert_eq!(short(&resolve(vec![tested(), merged, same(4, "openstack/p", "master")]).await), "");
}

#[tokio::test]
async fn footers_that_name_nothing_here_are_noted_and_ignored() {
    let found = resolve(vec![with(
        change(1),
        &["https://elsewhere.example.org/7", "https://github.com/o/n/pull/7", "see above", &url(99)],
    )])
    .await;
    assert_eq!((short(&found).as_str(), found.notes.len()), ("", 4));
    assert!(found.notes.iter().any(|note| note.contains("change 7 of elsewhere.example.org")), "{found:?}");
}

#[tokio::test]
async fn more_dependencies_than_the_limit_are_said_and_nothing_is_run() {
    let chain = |number: u64| with(change(number), &[&url(number + 1)]);
    let most = MAX_DEPENDENCIES as u64;
    let chain_of = |length: u64| (1..=length).map(chain).chain([change(length + 1)]).collect::<Vec<_>>();
    assert_eq!(resolve(chain_of(most)).await.list.len(), MAX_DEPENDENCIES);
    let why = unmet(chain_of(most + 1)).await;
    assert_eq!(why, "it depends on more than 50 changes");
    // Not deep, but wide.
    let values: Vec<String> = (2..40).map(url).collect();
    let wide = |number: u64| with(change(number), &values.iter().map(String::as_str).collect::<Vec<_>>());
    let both: Vec<_> = [wide(1)]
        .into_iter()
        .chain((2..40).map(|n| with(change(n), &[&url(n + 100)])))
        .chain((102..140).map(change))
        .collect();
    assert_eq!(unmet(both).await, why);
}

/// Upstream that counts questions, and shows a patch set only from the third on.
struct Late {
    changes: MemoryChanges,
    asked: AtomicUsize,
    shown_from: usize,
}

#[async_trait::async_trait]
impl DependencyLookup for Late {
    async fn find(&self, which: &ChangeSelector) -> Result<Vec<LinkedChange>> {
        let is_shown = self.asked.fetch_add(1, Ordering::SeqCst) >= self.shown_from;
        if is_shown { self.changes.find(which).await } else { Ok(Vec::new()) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_patch_set_that_upstream_does_not_show_yet_is_waited_for() {
    let (tested, other) = (with(change(1), &[&url(2)]), change(2));
    for (shown_from, expected) in [(2, "d2"), (99, "")] {
        let changes = MemoryChanges::of([tested.clone(), other.clone()]);
        let late = Late { changes, asked: AtomicUsize::new(0), shown_from };
        let found = resolve_dependencies(&late, &tested.change, &patchset(1, 1)).await.unwrap();
        assert_eq!(short(&found), expected);
    }
}

/// Upstream that never answers.
struct Silent;

#[async_trait::async_trait]
impl DependencyLookup for Silent {
    async fn find(&self, _: &ChangeSelector) -> Result<Vec<LinkedChange>> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_without_an_answer_is_a_temporary_error() {
    let error = resolve_dependencies(&Silent, &change(1).change, &patchset(1, 1)).await.unwrap_err();
    assert!(error.is_temporary() && error.kind() == ErrorKind::TimedOut, "{error}");
}
