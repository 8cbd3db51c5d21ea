//! Finds the dependencies of a change: the open changes below it in git and those that its footers name, and theirs in
//! turn.
//!
//! What cannot be applied is answered as Zuul does: a change that depends on an abandoned one, or on itself in a circle,
//! is not tested. What Zuul ignores is ignored: merged changes, footers that name nothing on this Gerrit. For a public
//! change private ones do not exist: neither their code nor what becomes of them may get into a public comment or log.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::dependency::{Dependency, DependencyKind, DependsOn, MAX_DEPENDENCIES, footers, server_of_url};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Change, ChangeStatus, Patchset};
use crate::names::ChangeNumber;
use crate::text::short_line;
use crate::traits::{ChangeSelector, DependencyLookup, LinkedChange};

/// How many questions may be asked about one change: twice as many as a chain of the longest length needs.
const MAX_QUESTIONS: usize = 4 * MAX_DEPENDENCIES;

/// How many changes one footer may name, by a Change-Id that many branches have.
const MAX_NAMED: usize = MAX_DEPENDENCIES;

/// How long one question may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait for a patch set that upstream does not show yet, each time twice as long: an event may come before
/// upstream's index has it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const WAITS: u32 = 3;

/// The longest note.
const MAX_NOTE: usize = 300;

/// What a change depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dependencies {
    /// In the order in which they must be applied, before the change itself. At most [`MAX_DEPENDENCIES`].
    pub list: Vec<Dependency>,
    /// Why the change cannot be tested, as `it depends on change 7, which is abandoned`.
    pub unmet: Option<String>,
    /// What was ignored, and why. For logs.
    pub notes: Vec<String>,
}

/// Finds the dependencies of a patch set of a change.
///
/// The footers are those of the change's newest patch set.
///
/// # Errors
/// Those of the lookup.
pub async fn resolve_dependencies(
    lookup: &dyn DependencyLookup,
    change: &Change,
    patchset: &Patchset,
) -> Result<Dependencies> {
    let mut walk = Walk {
        lookup,
        questions: 0,
        is_private: false,
        done: BTreeSet::new(),
        found: Dependencies::default(),
    };
    let unmet = walk.run(change, patchset).await?;
    let mut found = walk.found;
    if unmet.is_some() {
        (found.list, found.unmet) = (Vec::new(), unmet);
    }
    Ok(found)
}

/// What a change of the walk leads to.
enum Link {
    /// Its git parent.
    Commit(crate::names::Revision),
    Footer(DependsOn),
    /// A change that a footer named.
    Change(Box<LinkedChange>),
}

/// A change on the way from the one that is tested.
struct Step {
    change: Change,
    /// None for the one that is tested.
    dependency: Option<Dependency>,
    links: VecDeque<Link>,
}

impl Step {
    fn new(found: &LinkedChange, patchset: &Patchset, dependency: Option<Dependency>) -> Self {
        let parents = found.commits.iter().find(|commit| commit.patchset.revision == patchset.revision);
        let parents = parents.into_iter().flat_map(|commit| commit.parents.iter().cloned());
        // Parents first: which of their patch sets is tested is fixed by git.
        let links = parents.map(Link::Commit).chain(footers(&found.message).into_iter().map(Link::Footer));
        Self { change: found.change.clone(), dependency, links: links.collect() }
    }
}

struct Walk<'a> {
    lookup: &'a dyn DependencyLookup,
    questions: usize,
    /// Whether the change that is tested is private.
    is_private: bool,
    done: BTreeSet<ChangeNumber>,
    found: Dependencies,
}

/// The change cannot be tested, and why.
type Unmet = Option<String>;

impl Walk<'_> {
    /// Walks through all that the change depends on, depth first, so that what must be applied first comes first.
    async fn run(&mut self, change: &Change, patchset: &Patchset) -> Result<Unmet> {
        let Some(own) = self.own(change, patchset).await? else {
            self.note(format!("upstream does not show change {}", change.number));
            return Ok(None);
        };
        self.is_private = own.change.private;
        // Only the path, and never a recursion: commit messages decide how deep it is.
        let mut path = vec![Step::new(&own, patchset, None)];
        while let Some(step) = path.last_mut() {
            let Some(link) = step.links.pop_front() else {
                let Some(Step { change, dependency, .. }) = path.pop() else { break };
                self.done.insert(change.number);
                self.found.list.extend(dependency);
                continue;
            };
            let too_many = || Ok(Some(format!("it depends on more than {MAX_DEPENDENCIES} changes")));
            if self.questions >= MAX_QUESTIONS {
                return too_many();
            }
            let next = match link {
                Link::Commit(revision) => self.parent(&path, revision).await?,
                Link::Footer(footer) => {
                    let named = self.named(&path, footer).await?;
                    if let Some(step) = path.last_mut() {
                        for change in named.into_iter().rev() {
                            step.links.push_front(Link::Change(Box::new(change)));
                        }
                    }
                    None
                }
                Link::Change(found) => {
                    let newest = found.commits.last().map(|commit| commit.patchset.clone());
                    newest.map(|newest| (*found, newest, DependencyKind::DependsOn))
                }
            };
            let Some((found, patchset, kind)) = next else { continue };
            match self.enter(&path, &found, &patchset, kind) {
                // The path begins with the change itself.
                Entered::Step(_) if path.len() + self.found.list.len() > MAX_DEPENDENCIES => {
                    return too_many();
                }
                Entered::Step(step) => path.push(step),
                Entered::Ignored => {}
                Entered::Unmet(why) => return Ok(Some(why)),
            }
        }
        Ok(None)
    }

    /// The change that is tested, with this patch set if upstream shows it in time.
    async fn own(&mut self, change: &Change, patchset: &Patchset) -> Result<Option<LinkedChange>> {
        let mut wait = FIRST_WAIT;
        for last in (0..=WAITS).map(|number| number == WAITS) {
            let found = self.ask_any(ChangeSelector::Number(change.number)).await?.into_iter().next();
            let is_shown = found.as_ref().is_some_and(|found| {
                found.commits.iter().any(|commit| commit.patchset.revision == patchset.revision)
            });
            if is_shown || last {
                return Ok(found);
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Ok(None)
    }

    /// The change that a git parent is a patch set of; none for a commit that was never under review.
    async fn parent(
        &mut self,
        path: &[Step],
        revision: crate::names::Revision,
    ) -> Result<Option<(LinkedChange, Patchset, DependencyKind)>> {
        let Some(step) = path.last() else { return Ok(None) };
        let (project, branch) = (step.change.project.clone(), step.change.branch.clone());
        let mut found = self.ask(ChangeSelector::Commit(revision.clone())).await?;
        found.retain(|found| found.change.project == project);
        // One commit may be under review for several branches. If it is in one of them, there is nothing to apply.
        found.sort_by_key(|found| {
            (found.change.status != ChangeStatus::Merged, found.change.branch != branch, found.change.number)
        });
        let Some(found) = found.into_iter().next() else { return Ok(None) };
        let at = found.commits.iter().position(|commit| commit.patchset.revision == revision);
        let Some(patchset) = at.and_then(|at| found.commits.get(at)).map(|commit| commit.patchset.clone())
        else {
            return Ok(None);
        };
        if at.is_some_and(|at| at + 1 < found.commits.len()) {
            self.note(format!(
                "its parent is patch set {} of change {}, which is not the newest",
                patchset.number, found.change.number
            ));
        }
        Ok(Some((found, patchset, DependencyKind::Parent)))
    }

    /// The changes that a footer names and that count.
    async fn named(&mut self, path: &[Step], footer: DependsOn) -> Result<Vec<LinkedChange>> {
        let own = path.last().map(|step| &step.change);
        let server = own.and_then(|change| change.url.as_deref()).and_then(server_of_url);
        let mut found = match &footer {
            DependsOn::Other(value) => {
                self.note(format!("Depends-On: {value} names no change of this Gerrit"));
                return Ok(Vec::new());
            }
            DependsOn::Url { server: other, change } if server.as_ref() != Some(other) => {
                self.note(format!("Depends-On: change {change} of {other} is on another server"));
                return Ok(Vec::new());
            }
            DependsOn::Url { change, .. } if self.done.contains(change) => return Ok(Vec::new()),
            DependsOn::Url { change, .. } => self.ask(ChangeSelector::Number(*change)).await?,
            DependsOn::Id(id) => self.ask(ChangeSelector::Id(id.clone())).await?,
        };
        found.truncate(MAX_NAMED);
        if found.is_empty() {
            self.note(format!(
                "Depends-On: {footer:?}: there is no such change, or this account may not see it"
            ));
        }
        // An id may name a change on several branches; one of them that was given up is not meant.
        if found.iter().any(|found| found.change.status != ChangeStatus::Abandoned) {
            found.retain(|found| found.change.status != ChangeStatus::Abandoned);
        }
        Ok(found)
    }

    /// Decides what a change that was found means.
    fn enter(
        &mut self,
        path: &[Step],
        found: &LinkedChange,
        patchset: &Patchset,
        kind: DependencyKind,
    ) -> Entered {
        let change = &found.change;
        if self.done.contains(&change.number) || change.status == ChangeStatus::Merged {
            return Entered::Ignored;
        }
        if path.last().is_some_and(|step| step.change.number == change.number) {
            self.note(format!("change {} depends on itself", change.number));
            return Entered::Ignored;
        }
        if let Some(at) = path.iter().position(|step| step.change.number == change.number) {
            let circle = path.iter().skip(at).map(|step| step.change.number).chain([change.number]);
            let circle: Vec<String> = circle.map(|number| number.to_string()).collect();
            return Entered::Unmet(format!(
                "changes depend on each other in a circle: {}",
                circle.join(", ")
            ));
        }
        if change.status != ChangeStatus::New {
            return Entered::Unmet(format!("it depends on change {}, which is abandoned", change.number));
        }
        Entered::Step(Step::new(found, patchset, Some(Dependency::new(change, patchset, kind))))
    }

    /// The changes that the one that is tested may depend on.
    async fn ask(&mut self, which: ChangeSelector) -> Result<Vec<LinkedChange>> {
        let mut found = self.ask_any(which).await?;
        found.retain(|found| self.is_private || !found.change.private);
        Ok(found)
    }

    async fn ask_any(&mut self, which: ChangeSelector) -> Result<Vec<LinkedChange>> {
        self.questions += 1;
        let answer = tokio::time::timeout(QUESTION_TIMEOUT, self.lookup.find(&which)).await;
        answer.unwrap_or_else(|_| {
            Err(Error::temporary(ErrorKind::TimedOut, "no answer about a dependency in time"))
        })
    }

    fn note(&mut self, note: String) {
        if self.found.notes.len() < MAX_DEPENDENCIES {
            self.found.notes.push(short_line(&note, MAX_NOTE));
        }
    }
}

enum Entered {
    Step(Step),
    Ignored,
    Unmet(String),
}

#[cfg(test)]
#[path = "dependencies_tests.rs"]
mod tests;
