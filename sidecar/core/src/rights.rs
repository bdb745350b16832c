//! Who may change a document, as far as the document itself shows it (G-5). Pure; for registries that authenticate who
//! asks.
//!
//! A member of the present view may change it: it may add members, take out members that are proved dead or at most half
//! of them that are not (V-5), move the ballot on, and store what it knows of ends and releases. Whoever is not in the view
//! may store the ends of its own pod's earlier incarnations, and begin again when at most half of the view may still live
//! (C-7). What only members know (confirmations, votes, promises) is not checked here: it is for them to keep.

use std::collections::BTreeSet;

use crate::document::{Document, Proof, UnsealedView};
use crate::ids::MemberId;
use crate::member::{Member, PlatformIdentity};

/// Who asks for a change, by what authenticated it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The incarnation.
    pub member: MemberId,
    /// The platform identity that it was certified for.
    pub identity: PlatformIdentity,
}

/// A change that its caller may not make, or that can't follow from the document that it replaces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The caller is not in the view, and asks for what only a member of it may do.
    #[error("member {caller} is not in view {view}, and only its members may {asked}; join it first")]
    NotAMember {
        /// Who asks.
        caller: MemberId,
        /// The number of the present view.
        view: u64,
        /// What it asks for.
        asked: &'static str,
    },
    /// More than half of the view would be put out without a proof that they ended.
    #[error(
        "view: {removed} of {members} members would be taken out without a proof of their end; at most half may be (V-5)"
    )]
    Majority {
        /// Members taken out without a proof.
        removed: usize,
        /// Members of the present view.
        members: usize,
    },
    /// A proof that this caller can't give.
    #[error("proofs.{member}: {proof:?} is not this caller's to say; {remedy}")]
    Proof {
        /// Whose end it says.
        member: MemberId,
        /// What it says.
        proof: Proof,
        /// Whose it is.
        remedy: &'static str,
    },
    /// A part of the document that can't be so after the present one.
    #[error("{field}: {why}")]
    Shape {
        /// The part.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl ChangeError {
    /// A stable label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            ChangeError::NotAMember { .. } => "not-a-member",
            ChangeError::Majority { .. } => "majority",
            ChangeError::Proof { .. } => "proof",
            ChangeError::Shape { .. } => "shape",
        }
    }
}

const fn shape(field: &'static str, why: &'static str) -> Result<(), ChangeError> {
    Err(ChangeError::Shape { field, why })
}

/// Whether `caller` may create `first` where there is no document: view 1 of itself alone.
///
/// # Errors
/// [`ChangeError`].
pub fn check_creation(caller: &Caller, first: &Document) -> Result<(), ChangeError> {
    if !is_alone(caller, first) {
        return shape("view.members", "the first view has its maker as the only member");
    }
    if !first.view.is_sound() {
        return shape("view.groups", "each group of each class is there, and points to members");
    }
    if first.view.number.0 != 1 || first.revision != 1 || first.ballot != 0 {
        return shape("view.number", "the first document has view 1, revision 1 and ballot 0");
    }
    let none_before = first.departed.is_empty() && first.proofs.is_empty() && first.vacant.is_empty();
    if !first.unsealed.is_empty() || !none_before {
        return shape("unsealed", "nothing came before the first view");
    }
    Ok(())
}

/// Whether `caller` may put `next` in the place of `present`. `may_have_released` says of a member that it is on its way
/// out for all that the platform knows, so that a caller outside of the view may pass on that it has released.
///
/// # Errors
/// [`ChangeError`].
pub fn check_change(
    caller: &Caller,
    present: &Document,
    next: &Document,
    may_have_released: &dyn Fn(&Member) -> bool,
) -> Result<(), ChangeError> {
    if !present.view.is_sound() || !next.view.is_sound() {
        return shape("view.groups", "each group of each class is there, and points to members");
    }
    let is_member = is_in_view(caller, present);
    check_agreed(present, next, is_member)?;
    check_proofs(caller, present, next, is_member, may_have_released)?;
    check_unsealed(present, next)?;
    check_departed(present, next)?;
    check_vacant(present, next)?;
    if next.view.number == present.view.number {
        return check_same_view(caller, present, next, is_member);
    }
    if present.view.number.0.checked_add(1) != Some(next.view.number.0) {
        return shape("view.number", "it goes on by one");
    }
    if next.ballot != present.ballot {
        return shape("ballot", "it stays when the view changes");
    }
    let out = present.view.ids().filter(|id| !next.view.contains(*id) && !is_proved(present, next, *id)).count();
    if out * 2 > present.view.members.len() {
        return Err(ChangeError::Majority { removed: out, members: present.view.members.len() });
    }
    if is_member { check_members(present, next) } else { check_beginning(caller, present, next) }
}

/// Whether the present view has `caller`, and as the one that was certified: an id alone could be anybody's.
#[must_use]
pub fn is_in_view(caller: &Caller, document: &Document) -> bool {
    document.view.member(caller.member).is_some_and(|member| member.identity == caller.identity)
}

fn is_alone(caller: &Caller, document: &Document) -> bool {
    matches!(&document.view.members[..], [one] if one.id == caller.member && one.identity == caller.identity)
}

fn is_proved(present: &Document, next: &Document, id: MemberId) -> bool {
    next.proofs.contains_key(&id) || present.proofs.contains_key(&id)
}

fn not_a_member(caller: &Caller, present: &Document, asked: &'static str) -> ChangeError {
    ChangeError::NotAMember { caller: caller.member, view: present.view.number.0, asked }
}

fn check_agreed(present: &Document, next: &Document, is_member: bool) -> Result<(), ChangeError> {
    let (old, new) = (&present.agreed, &next.agreed);
    if old.segments != new.segments || old.hash != new.hash || next.view.segments != present.view.segments {
        return shape("agreed.segments", "segments and hash rule stay as the cluster was made");
    }
    if !is_member && old != new {
        return shape("agreed", "only a member of the view may change what all agree on");
    }
    Ok(())
}

fn check_proofs(
    caller: &Caller,
    present: &Document,
    next: &Document,
    is_member: bool,
    may_have_released: &dyn Fn(&Member) -> bool,
) -> Result<(), ChangeError> {
    let counted = |id: &MemberId| next.view.contains(*id) || next.unsealed.iter().any(|u| u.members.contains(id));
    if present.proofs.keys().any(|id| counted(id) && !next.proofs.contains_key(id)) {
        return shape("proofs", "a proof stays while a view that counts its member is not sealed");
    }
    for (&member, &proof) in &next.proofs {
        if present.proofs.contains_key(&member) {
            continue;
        }
        let refused = |remedy| Err(ChangeError::Proof { member, proof, remedy });
        let record = present.view.member(member).or_else(|| present.departed.iter().find(|m| m.id == member));
        if !proof.is_of_members() {
            return refused("the operator stores what the platform and people say");
        }
        if record.is_none() && !present.unsealed.iter().any(|u| u.members.contains(&member)) {
            return refused("no view that counts has that member");
        }
        let own = record.is_some_and(|m| m.id != caller.member && caller.identity.succeeds(&m.identity).is_some());
        let released = proof == Proof::Released && record.is_some_and(may_have_released);
        if !is_member && !own && !released {
            return refused("whoever is not in the view may prove the end of its own earlier incarnations alone");
        }
    }
    Ok(())
}

/// S-1, as far as the document shows it: nobody is confirmed past a view while it is the newest.
fn check_unsealed(present: &Document, next: &Document) -> Result<(), ChangeError> {
    let left = UnsealedView { number: present.view.number, members: present.view.ids().collect() };
    let changed = next.view.number != present.view.number;
    if next.unsealed.iter().any(|u| !(present.unsealed.contains(u) || changed && *u == left)) {
        return shape("unsealed", "only views that were unsealed, and the present one, can be");
    }
    let open = left.members.iter().filter(|id| !is_proved(present, next, **id)).count();
    if changed && open * 2 > left.members.len() && !next.unsealed.contains(&left) {
        return shape(
            "unsealed",
            "the view that is left is not sealed yet: more than half of it may still serve in it",
        );
    }
    Ok(())
}

fn check_departed(present: &Document, next: &Document) -> Result<(), ChangeError> {
    let known = |m: &Member| present.departed.contains(m) || present.view.members.contains(m);
    if !next.departed.iter().all(known) {
        return shape("departed", "only members of views that came before can be");
    }
    let recorded: BTreeSet<MemberId> = next.departed.iter().map(|m| m.id).chain(next.view.ids()).collect();
    let mut before = present.departed.iter().chain(&present.view.members).map(|m| m.id);
    if before.any(|id| next.unsealed.iter().any(|u| u.members.contains(&id)) && !recorded.contains(&id)) {
        return shape("departed", "a member of an unsealed view stays recorded");
    }
    Ok(())
}

/// V-9: who they say to have held a vacant group's last copies may come back with one.
fn check_vacant(present: &Document, next: &Document) -> Result<(), ChangeError> {
    if next.vacant != present.vacant_after(&next.view) {
        return shape("vacant", "it lists the groups without an owner, with those that were the last");
    }
    Ok(())
}

fn check_same_view(caller: &Caller, present: &Document, next: &Document, is_member: bool) -> Result<(), ChangeError> {
    if next.view != present.view {
        return shape("view", "a changed view has the next number");
    }
    if next.ballot != present.ballot && !is_member {
        return Err(not_a_member(caller, present, "move the ballot on"));
    }
    if next.ballot.checked_sub(present.ballot).is_none_or(|by| by > 1) {
        return shape("ballot", "it goes on by one");
    }
    Ok(())
}

/// A member changes who is in.
fn check_members(present: &Document, next: &Document) -> Result<(), ChangeError> {
    let (old, new) = (&present.view, &next.view);
    let stay: Vec<&Member> = old.members.iter().filter(|m| new.contains(m.id)).collect();
    let (kept, added) = new.members.split_at(stay.len().min(new.members.len()));
    if !kept.iter().eq(stay) {
        return shape("view.members", "those who stay keep their records and their order, and joiners come after them");
    }
    if added.len() > old.members.len() {
        return shape("view.members", "at most as many join in one change as the view has members (C-2)");
    }
    if added.iter().any(|m| m.joined < old.next_joined || m.joined >= new.next_joined)
        || new.next_joined < old.next_joined
    {
        return shape("view.nextJoined", "the join order goes on");
    }
    Ok(())
}

/// Whoever is not in the view begins again alone, when at most half of it may still live (C-7).
fn check_beginning(caller: &Caller, present: &Document, next: &Document) -> Result<(), ChangeError> {
    if !is_alone(caller, next) {
        return Err(not_a_member(caller, present, "change who is in it"));
    }
    if next.view.groups.iter().any(|group| group.empty_since != next.view.number) {
        return shape("view.groups", "whoever begins again has no copies");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
