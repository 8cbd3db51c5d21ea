//! Checks of the contract of [`TriggerLookup`].

use pushbutton_core::{ChangeNumber, CurrentVote, ErrorKind, PatchsetDetails, PatchsetNumber, TriggerLookup};

/// What the look-up under test must know.
#[derive(Debug, Clone)]
pub struct Known {
    /// A change of at least two patch sets.
    pub change: ChangeNumber,
    /// Its first patch set, and its files without those that stand for messages.
    pub first: (PatchsetNumber, Vec<String>),
    /// Its newest patch set, with other files: one of them was moved, and both paths are named.
    pub newest: (PatchsetNumber, Vec<String>),
    /// The only vote that stands on the newest patch set.
    pub vote: CurrentVote,
    /// A change that upstream does not show.
    pub no_change: ChangeNumber,
    /// A group whose name has a blank, and the logins of its members, sorted.
    pub group: (String, Vec<String>),
    /// A group that exists and shows no member, and a name that is no group's.
    pub silent_groups: Vec<String>,
}

/// Runs all checks.
pub async fn all(lookup: &dyn TriggerLookup, known: &Known) {
    it_answers_for_exactly_this_patch_set(lookup, known).await;
    votes_are_those_that_stand(lookup, known).await;
    what_upstream_does_not_show_is_not_found(lookup, known).await;
    members_are_complete_or_an_error(lookup, known).await;
}

async fn details(
    lookup: &dyn TriggerLookup,
    change: ChangeNumber,
    patchset: PatchsetNumber,
) -> PatchsetDetails {
    match lookup.patchset(change, patchset).await {
        Ok(details) => details,
        Err(error) => panic!("patch set {change},{patchset} is known, and was not found: {error}"),
    }
}

/// `patchset`: answers for exactly this patch set, also if there is a newer one, with old and new paths.
pub async fn it_answers_for_exactly_this_patch_set(lookup: &dyn TriggerLookup, known: &Known) {
    for (patchset, files) in [&known.first, &known.newest] {
        let details = details(lookup, known.change, *patchset).await;
        let mut found: Vec<String> =
            details.files.into_iter().filter(|path| !path.starts_with('/')).collect();
        found.sort();
        assert_eq!(&found, files, "the files of patch set {patchset}");
        assert!(!details.more_files, "a short list is complete");
    }
}

/// `patchset`: the votes are those that stand now, on this patch set.
pub async fn votes_are_those_that_stand(lookup: &dyn TriggerLookup, known: &Known) {
    let votes = details(lookup, known.change, known.newest.0).await.votes;
    let is_same =
        |vote: &CurrentVote| vote.by.username == known.vote.by.username && vote.vote == known.vote.vote;
    assert!(votes.len() == 1 && is_same(&votes[0]), "the vote {:?}, and found {votes:?}", known.vote);
}

/// `patchset`: `NotFound`, permanent, if upstream does not show such a patch set.
pub async fn what_upstream_does_not_show_is_not_found(lookup: &dyn TriggerLookup, known: &Known) {
    for (change, patchset) in [(known.no_change, PatchsetNumber(1)), (known.change, PatchsetNumber(999))] {
        match lookup.patchset(change, patchset).await {
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.is_temporary()),
                    (ErrorKind::NotFound, false),
                    "{change},{patchset}: {error}"
                );
            }
            Ok(details) => panic!("{change},{patchset} does not exist, and has {details:?}"),
        }
    }
}

/// `group_members`: never empty; `NotFound`, permanent, if there is no such group, or it shows no member.
pub async fn members_are_complete_or_an_error(lookup: &dyn TriggerLookup, known: &Known) {
    let (group, logins) = &known.group;
    match lookup.group_members(group).await {
        Ok(members) => {
            let mut found: Vec<String> = members.into_iter().filter_map(|member| member.username).collect();
            found.sort();
            assert_eq!(&found, logins, "the members of {group:?}");
        }
        Err(error) => panic!("the group {group:?} is known, and was not found: {error}"),
    }
    for group in &known.silent_groups {
        match lookup.group_members(group).await {
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.is_temporary()),
                    (ErrorKind::NotFound, false),
                    "{group:?}: {error}"
                );
            }
            Ok(members) => panic!("the group {group:?} shows no member, and has {members:?}"),
        }
    }
}
