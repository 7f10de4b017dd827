//! The tree of descriptors of one domain, as the reference service matches it.
//!
//! A request's entries are walked from left to right. At each level the child is taken whose `key_value` is the
//! entry's, else the first declared wildcard that matches, else the child whose `key_value` is the entry's key alone;
//! the choice is final. All edges of all nodes are in one hash table, looked up by (parent, text): a step costs two
//! looks at most, however many rules there are.

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::joined::{Joined, Probe, TextHash};
use super::wildcard::Wildcards;
use crate::descriptor::Entry;

/// A node, by its number.
pub(super) type NodeId = u32;

/// The nodes on the way of a request, from the top, one for each entry.
pub(super) type Walk = SmallVec<[NodeId; 8]>;

#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    edges: HashTable<Edge>,
}

/// A node of the tree. What it is called is its `key_value`, or its key if it has no value.
///
/// One line of a processor's cache: where rules are many, each step of a walk waits for the memory of another node.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Node {
    composite: Box<str>,
    wildcards: Option<Box<Wildcards>>,
    parent: NodeId,
    key_length: u32,
    /// Length in bytes of the longest composite below; 0 if there is nothing below.
    longest_below: u32,
    is_wildcard: bool,
    pub(super) share_threshold: bool,
    pub(super) value_to_metric: bool,
    /// Number of its rule, if it carries a limit.
    pub(super) rule: Option<usize>,
}

const _: () = assert!(size_of::<Node>() == 64, "a node takes one line");

#[derive(Debug)]
struct Edge {
    hash: u64,
    node: NodeId,
}

// === impl Tree ===

impl Tree {
    /// Where the walk begins; no descriptor of its own.
    pub(super) const ROOT: NodeId = 0;

    pub(super) fn new() -> Tree {
        Tree { nodes: vec![Node::new(Tree::ROOT, "", None)], edges: HashTable::new() }
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// Adds a child. If there is one with the same composite the new node is made, but no request reaches it; the
    /// older one is the answer.
    pub(super) fn add(&mut self, parent: NodeId, key: &str, value: Option<&str>) -> (NodeId, Option<NodeId>) {
        let id = self.next_id();
        let node = Node::new(parent, key, value);
        let hash = TextHash::of(parent.into(), node.composite.as_bytes());
        let earlier = self.edge(hash, parent, |composite| *composite == *node.composite, &mut ());
        if earlier.is_none() {
            self.edges.insert_unique(hash, Edge { hash, node: id }, |edge| edge.hash);
            let parent = self.node_mut(parent);
            parent.longest_below = parent.longest_below.max(length(&node.composite));
            if node.is_wildcard() {
                parent.wildcards.get_or_insert_default().add(&node.composite, id);
            }
        }
        self.nodes.push(node);
        (id, earlier)
    }

    /// Adds a child that no request reaches, for a descriptor of which it isn't known what it should be called.
    pub(super) fn add_unreachable(&mut self, parent: NodeId, key: &str, value: Option<&str>) -> NodeId {
        let id = self.next_id();
        self.nodes.push(Node::new(parent, key, value));
        id
    }

    fn next_id(&self) -> NodeId {
        // A node needs more than one byte of a file, and a file has a bound.
        NodeId::try_from(self.nodes.len()).expect("rule files are too short for so many nodes")
    }

    /// The nodes that the entries lead to, if there is one for each and at least one.
    pub(super) fn walk(&self, entries: &[Entry<'_>], probe: &mut impl Probe) -> Option<Walk> {
        let mut walk = Walk::new();
        let mut node = Tree::ROOT;
        for entry in entries {
            node = self.child(node, entry, probe)?;
            walk.push(node);
        }
        (!walk.is_empty()).then_some(walk)
    }

    fn child(&self, parent: NodeId, entry: &Entry<'_>, probe: &mut impl Probe) -> Option<NodeId> {
        let longest = self.node(parent).longest_below as usize;
        if longest == 0 {
            return None;
        }
        let text = Joined::of(entry);
        let mut hash = TextHash::new(parent.into());
        // A megabyte of value is not hashed: only as much as a composite could be.
        let mut key_hash = None;
        if text.key().len() <= longest {
            hash.push(text.key());
            key_hash = Some(hash.finish());
        }
        if text.len() <= longest {
            text.hash_into(&mut hash, text.key().len(), text.len());
            let exact = self.edge(hash.finish(), parent, |composite| text.equals(composite.as_bytes()), probe);
            if exact.is_some() {
                return exact;
            }
        }
        if let Some(wildcards) = &self.node(parent).wildcards
            && let Some(node) = wildcards.find(&text, probe)
        {
            return Some(node);
        }
        self.edge(key_hash?, parent, |composite| composite.as_bytes() == text.key(), probe)
    }

    fn edge(
        &self,
        hash: u64,
        parent: NodeId,
        is_same: impl Fn(&str) -> bool,
        probe: &mut impl Probe,
    ) -> Option<NodeId> {
        probe.step();
        let found = self.edges.find(hash, |edge| {
            let node = self.node(edge.node);
            edge.hash == hash && node.parent == parent && is_same(&node.composite)
        })?;
        Some(found.node)
    }

    /// The nodes from the top to `node`, both included.
    /// The nodes with a limit, and the numbers of their rules.
    pub(super) fn with_rules(&self) -> impl Iterator<Item = (NodeId, usize)> {
        let numbered = self.nodes.iter().zip(0..);
        numbered.filter_map(|(node, id)| node.rule.map(|rule| (id, rule)))
    }

    pub(super) fn path(&self, node: NodeId) -> Walk {
        let mut path = Walk::new();
        let mut node = node;
        while node != Tree::ROOT {
            path.push(node);
            node = self.node(node).parent;
        }
        path.reverse();
        path
    }
}

// === impl Node ===

impl Node {
    fn new(parent: NodeId, key: &str, value: Option<&str>) -> Node {
        let composite: Box<str> = match value {
            Some(value) => format!("{key}_{value}").into(),
            None => key.into(),
        };
        Node {
            parent,
            is_wildcard: composite.contains('*'),
            composite,
            key_length: length(key),
            longest_below: 0,
            wildcards: None,
            share_threshold: false,
            value_to_metric: false,
            rule: None,
        }
    }

    pub(super) fn composite(&self) -> &str {
        &self.composite
    }

    pub(super) fn key(&self) -> &str {
        &self.composite[..self.key_length as usize]
    }

    pub(super) fn value(&self) -> Option<&str> {
        self.composite.get(self.key_length as usize + 1..)
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }

    /// Whether it has one counter for all values.
    pub(super) fn is_shared(&self) -> bool {
        self.share_threshold && self.is_wildcard()
    }
}

fn length(text: &str) -> u32 {
    u32::try_from(text.len()).expect("rule files are shorter than that")
}
