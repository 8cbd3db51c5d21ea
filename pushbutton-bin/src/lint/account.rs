//! The rules for the account.

use super::Findings;

/// Projects whose names are not names of a CI.
const PROJECTS: [&str; 16] = [
    "cinder",
    "nova",
    "neutron",
    "glance",
    "keystone",
    "swift",
    "manila",
    "ironic",
    "horizon",
    "heat",
    "tempest",
    "devstack",
    "octavia",
    "designate",
    "zuul",
    "openstack",
];

/// Checks the full name.
pub(crate) fn check_name(name: &str, findings: &mut Findings) {
    let words: Vec<&str> = name.split_whitespace().collect();
    let shown = format!("the full name is {name:?}");
    let fix = "name it \"Organization Product/technology CI\", such as \"Acme Storage CI\"";
    let is_known = match words.as_slice() {
        [organization, .., last] if *last == "CI" || *last == "Bot" => {
            if PROJECTS.contains(&organization.to_lowercase().as_str()) {
                findings.fail("A8", format!("{shown}: {organization} is a project of OpenStack"), fix);
            } else if words.len() < 3 && *last == "CI" {
                findings.warn("A8", format!("{shown}, without a product or technology"), fix);
            }
            *last == "CI"
        }
        _ => {
            findings.fail("A8", shown.clone(), fix);
            name.ends_with(" CI")
        }
    };
    if !is_known {
        findings.fail(
            "A9",
            format!("{shown}: result tables do not show its comments"),
            "let it end with \" CI\"",
        );
    }
}

/// Checks the address that people write to.
pub(crate) fn check_email(email: &str, findings: &mut Findings) {
    let parts = email.split_once('@').filter(|(name, domain)| {
        !name.is_empty()
            && domain.contains('.')
            && !domain.starts_with('.')
            && !email.contains(char::is_whitespace)
    });
    let is_silent = parts.is_some_and(|(name, _)| {
        let name = name.to_lowercase().replace(['-', '_', '.'], "");
        name.contains("noreply") || name.contains("donotreply")
    });
    if parts.is_none() || is_silent {
        let fix = "give an address at which people of the lab answer";
        findings.fail("A10", format!("the address is {email:?}"), fix);
    }
}
