//! [`TriggerLookup`]: the files and votes of a patch set, and the members of groups.

use async_trait::async_trait;
use pushbutton_core::{
    Account, ChangeNumber, CurrentVote, Error, ErrorKind, PatchsetDetails, PatchsetNumber, Result,
    TriggerLookup,
};

use crate::client::Gerrit;
use crate::client::command::quote;
use crate::raw_event;
use crate::wire::{MAX_LIST, WireChange, WirePatchset};

/// The longest path that is kept, in bytes. Linux allows no longer ones.
const MAX_PATH: usize = 4096;

/// How many members of a group are kept.
const MAX_MEMBERS: usize = 10_000;

/// The first line of a list of members.
const MEMBERS_HEADER: &str = "id\tusername\t";

#[async_trait]
impl TriggerLookup for Gerrit {
    /// One `gerrit query` for the newest patch set; for an older one, a second for all of them.
    async fn patchset(&self, change: ChangeNumber, patchset: PatchsetNumber) -> Result<PatchsetDetails> {
        let current = |row: &WireChange<'_>| find(row.current_patch_set.iter(), patchset);
        let any = |row: &WireChange<'_>| find(row.patch_sets.iter(), patchset);
        let result = async {
            if let Some(details) = self.one_change("--current-patch-set --files", change, current).await? {
                return Ok(details);
            }
            // With all votes, since an older patch set has some of its own.
            let options = "--patch-sets --all-approvals --files";
            self.one_change(options, change, any).await?.ok_or_else(|| {
                Error::permanent(ErrorKind::NotFound, format!("change {change} has no patch set {patchset}"))
            })
        };
        result.await.map_err(|error| error.during("gerrit::patchset"))
    }

    /// `gerrit ls-members --recursive`: it needs no capability, but shows only what the account may see.
    async fn group_members(&self, group: &str) -> Result<Vec<Account>> {
        let context = |error: Error| error.during("gerrit::group_members").with("group", group);
        let (mut members, mut has_header, mut refusal) = (Vec::new(), false, String::new());
        let command = format!("gerrit ls-members --recursive {}", quote(group));
        let end = self
            .run(&command, None, |line| {
                if line.starts_with(MEMBERS_HEADER) {
                    has_header = true;
                } else if has_header {
                    members.extend(member(line).filter(|_| members.len() < MAX_MEMBERS));
                } else if refusal.is_empty() {
                    refusal = line.chars().take(300).collect();
                }
            })
            .await
            .map_err(context)?;
        end.success().map_err(context)?;
        if end.skipped > 0 || !has_header && refusal.is_empty() {
            let text = "Gerrit's list of members could not be read";
            return Err(context(Error::temporary(ErrorKind::Protocol, text)));
        }
        if members.is_empty() {
            let text = match has_header {
                true => "it has no members, or this account may not see them",
                false => "there is no such group, or this account may not see it",
            };
            return Err(context(Error::permanent(ErrorKind::NotFound, text)));
        }
        Ok(members)
    }
}

/// The patch set of this number, if it is among these.
fn find<'w, 'a: 'w>(
    mut patchsets: impl Iterator<Item = &'w WirePatchset<'a>>,
    number: PatchsetNumber,
) -> Result<Option<PatchsetDetails>> {
    let wanted = i64::from(number.0);
    Ok(patchsets.find(|patchset| patchset.number.0 == Some(wanted)).map(details))
}

fn details(patchset: &WirePatchset<'_>) -> PatchsetDetails {
    let (mut files, mut more_files) = (Vec::new(), patchset.files.len() >= MAX_LIST);
    for file in patchset.files.iter() {
        for path in [file.file.as_str(), file.file_old.as_str()].into_iter().filter(|path| !path.is_empty()) {
            if path.len() > MAX_PATH || files.len() >= PatchsetDetails::MAX_FILES {
                more_files = true;
            } else {
                files.push(path.to_owned());
            }
        }
    }
    let votes = patchset.approvals.iter().filter_map(|vote| {
        let by = raw_event::account(vote.by.as_ref());
        Some(CurrentVote::new(by, raw_event::approval(vote).filter(|vote| vote.value != 0)?))
    });
    PatchsetDetails::new(files).with_more_files(more_files).with_votes(votes.collect::<Vec<_>>())
}

/// A line of the list: `id`, login, full name and address, `n/a` where there is none.
fn member(line: &str) -> Option<Account> {
    let mut fields = line.split('\t').skip(1).map(|field| Some(field.trim()).filter(|field| *field != "n/a"));
    let username = fields.next()?.filter(|login| !login.is_empty() && login.len() <= 255)?;
    Some(Account::of(username))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::query::{Row, read_row};

    fn row(line: &str, number: u32) -> Option<PatchsetDetails> {
        let Row::Change(row) = read_row(line).unwrap() else { panic!("{line}") };
        find(row.current_patch_set.iter(), PatchsetNumber(number)).unwrap()
    }

    #[test]
    fn files_and_votes_of_the_patch_set_are_read_and_nothing_else_is_taken_for_them() {
        let line = r#"{"number":1,"currentPatchSet":{"number":2,"approvals":[{"type":"Verified","value":"-1","by":{"username":"zuul"}},{"type":"Code-Review","value":"0","by":{"username":"bob"}}],"files":[{"file":"/COMMIT_MSG","type":"ADDED"},{"file":"new/b.py","fileOld":"old/b.py","type":"RENAMED"},{"type":"ADDED"}]}}"#;
        let details = row(line, 2).unwrap();
        assert_eq!(details.files, ["/COMMIT_MSG", "new/b.py", "old/b.py"]);
        assert_eq!(details.votes.len(), 1, "0 is no vote: {details:?}");
        assert!(!details.more_files);
        assert_eq!(row(line, 1), None, "another patch set");
    }

    #[test]
    fn a_list_that_is_too_long_says_so() {
        let files: Vec<String> =
            (0..PatchsetDetails::MAX_FILES + 5).map(|n| format!(r#"{{"file":"f{n}"}}"#)).collect();
        let line =
            format!(r#"{{"number":1,"currentPatchSet":{{"number":1,"files":[{}]}}}}"#, files.join(","));
        let details = row(&line, 1).unwrap();
        assert_eq!((details.files.len(), details.more_files), (PatchsetDetails::MAX_FILES, true));
        let long = format!(
            r#"{{"number":1,"currentPatchSet":{{"number":1,"files":[{{"file":"{}"}}]}}}}"#,
            "x".repeat(5000)
        );
        assert!(row(&long, 1).unwrap().more_files);
    }

    #[test]
    fn a_member_without_a_login_is_nobody() {
        assert_eq!(member("1000004\tacme-ci\tAcme Storage CI\tci@example.org"), Some(Account::of("acme-ci")));
        assert_eq!(member("1000004\tn/a\tAcme\tci@example.org"), None);
        assert_eq!(member("No members"), None);
    }
}
