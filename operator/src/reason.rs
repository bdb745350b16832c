//! Closed lists of the words that events and conditions give as their reason, so that the documentation can be held
//! against them.

/// An enum whose words are its variants' names, with all of them in one list.
macro_rules! reasons {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $word:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$meaning])* $word,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$word,)+];

            /// The word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $($name::$word => stringify!($word),)+
                }
            }
        }
    };
}

pub(crate) use reasons;

#[cfg(test)]
mod tests {
    use crate::crd::{CacheCluster, CacheClusterSpec};
    use crate::reconcile::events::Reason;
    use crate::status::{ConditionReason, Fact, Seen, status};

    const RUNBOOK: &str = include_str!("../../docs/RUNBOOK.md");

    /// The rows of the runbook's table whose first column is headed so.
    fn table(heading: &str) -> Vec<&'static str> {
        let rows = RUNBOOK.lines().skip_while(|line| !line.starts_with(&format!("| {heading} |")));
        rows.skip(2).take_while(|line| line.starts_with('|')).collect()
    }

    #[test]
    fn every_reason_of_an_event_has_its_row_in_the_runbook() {
        let rows = table("event");
        for reason in Reason::ALL {
            let row = format!("| `{}` |", reason.word());
            assert!(rows.iter().any(|line| line.starts_with(&row)), "no row for {}", reason.word());
        }
        assert_eq!(rows.len(), Reason::ALL.len(), "a row is of no event");
    }

    #[test]
    fn every_condition_and_every_reason_of_one_is_in_the_runbook() {
        let rows = table("condition");
        let cluster = CacheCluster::new("web", CacheClusterSpec::default());
        let seen = Seen {
            cluster: &cluster,
            document: None,
            document_fault: None,
            pods: &[],
            settings_fault: None,
            webhook_fault: None,
            certificates: Fact::yes(ConditionReason::AuthorityReady, ""),
            guard: Fact::yes(ConditionReason::Guarded, ""),
        };
        let conditions = status(&seen, k8s_openapi::jiff::Timestamp::UNIX_EPOCH).conditions;
        for condition in &conditions {
            let row = format!("| `{}` |", condition.type_);
            assert!(rows.iter().any(|line| line.starts_with(&row)), "no row for {}", condition.type_);
        }
        assert_eq!(rows.len(), conditions.len(), "a row is of no condition");
        for reason in ConditionReason::ALL {
            let word = format!("`{}`", reason.word());
            // The last column has the reasons.
            let told = rows.iter().any(|line| line.rsplit('|').nth(1).is_some_and(|reasons| reasons.contains(&word)));
            assert!(told, "{word} is in no row");
        }
    }
}
