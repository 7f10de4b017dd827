//! A YAML document as a tree in which every value knows its line.
//!
//! Made from a parser's events and not with a serde deserialiser: that keeps no positions for values, has forgotten by
//! then which scalars were quoted, and reads YAML 1.2 words where the reference service reads 1.1 ([`super::scalar`]).
//! A mistake in the meaning of a rule must name its line like a mistake in its syntax.
//!
//! Anchors, aliases and `<<` merges are expanded here. As in the reference's parser a merge takes effect where it
//! stands: a key written after it wins, one written before it loses. Of several documents only the first is read.
//!
//! **Bounded.** A file is at most [`BYTES_MAX`] long, nests at most [`DEPTH_MAX`] deep and has at most [`NODES_MAX`]
//! values *after* its aliases are expanded, so ten lines of aliases can't fill the memory.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::error::Place;
use super::scalar::{self, Kind};

/// Longest file, in bytes: about 150,000 rules.
pub(crate) const BYTES_MAX: usize = 16 << 20;

/// Deepest nesting of maps and lists: 48 levels of descriptors, more than a request may have entries.
pub(super) const DEPTH_MAX: usize = 100;

/// Most values of one file after its aliases are expanded; a rule has about ten.
pub(super) const NODES_MAX: usize = 2_000_000;

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node<'t> {
    pub(crate) place: Place,
    pub(crate) value: Value<'t>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value<'t> {
    /// The text as written (after unquoting), and what it is.
    Scalar(Cow<'t, str>, Kind),
    List(Vec<Node<'t>>),
    Map(Vec<Pair<'t>>),
}

/// A key and its value, in the order of the file; a key may come again.
#[derive(Clone, Debug)]
pub(crate) struct Pair<'t> {
    pub(crate) key: Node<'t>,
    pub(crate) value: Node<'t>,
    /// Whether it came by way of `<<`.
    pub(crate) merged: bool,
}

/// The first document of a text.
#[derive(Debug)]
pub(crate) struct Document<'t> {
    /// `None` if there is none.
    pub(crate) root: Option<Node<'t>>,
    /// Where a second document begins.
    pub(crate) second: Option<Place>,
}

/// Why a text is no document.
#[derive(Debug)]
pub(crate) struct YamlError {
    pub(crate) place: Place,
    pub(crate) text: String,
}

/// Reads the first document of `text`.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, YamlError> {
    if text.len() > BYTES_MAX {
        let text = format!("the file has {} bytes, at most {BYTES_MAX} are read; split it over several", text.len());
        return Err(YamlError { place: Place::default(), text });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str(text);
    let mut builder = Builder::default();
    while let Some((event, start)) = next(&mut parser)? {
        if event == Event::DocumentEnd {
            // What follows the first document is not read, so a mistake in it is none.
            let second = loop {
                match next(&mut parser) {
                    Ok(Some((Event::DocumentStart(_), start))) => break Some(place_of(&start)),
                    Ok(Some((Event::DocumentEnd, _))) => {}
                    _ => break None,
                }
            };
            return Ok(Document { root: builder.root, second });
        }
        builder.on_event(event, place_of(&start))?;
    }
    Ok(Document { root: builder.root, second: None })
}

fn next<'t>(parser: &mut Parser<'t, StrInput<'t>>) -> Result<Option<(Event<'t>, Marker)>, YamlError> {
    let wrong = |error: ScanError| YamlError { place: place_of(error.marker()), text: error.info().to_owned() };
    match parser.next_event() {
        Some(Ok((event, span))) => Ok(Some((event, span.start))),
        Some(Err(error)) => Err(wrong(error)),
        None => Ok(None),
    }
}

fn place_of(marker: &Marker) -> Place {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place { line: number(marker.line()), column: number(marker.col() + 1) }
}

/// Puts events together.
#[derive(Debug, Default)]
struct Builder<'t> {
    open: Vec<Open<'t>>,
    root: Option<Node<'t>>,
    anchors: HashMap<usize, (Node<'t>, usize)>,
    nodes: usize,
}

/// A list or map whose end has not come yet.
#[derive(Debug)]
struct Open<'t> {
    place: Place,
    anchor: usize,
    /// Nodes made before this one, so that its size is known at its end.
    nodes_before: usize,
    items: Items<'t>,
}

#[derive(Debug)]
enum Items<'t> {
    List(Vec<Node<'t>>),
    Map { pairs: Vec<Pair<'t>>, key: Option<Node<'t>> },
}

// === impl Builder ===

impl<'t> Builder<'t> {
    fn on_event(&mut self, event: Event<'t>, place: Place) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, place)?;
                let value = scalar_value(text, style, tag.as_deref(), place)?;
                self.finish(Node { place, value }, anchor, 1)
            }
            Event::SequenceStart(anchor, _) => self.open(place, anchor, Items::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.open(place, anchor, Items::Map { pairs: Vec::new(), key: None }),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    let text = "an anchor's value contains itself; an alias may only follow the value it repeats";
                    return Err(YamlError { place, text: text.to_owned() });
                };
                let (mut node, size) = (node.clone(), *size);
                self.count(size, place)?;
                node.place = place;
                self.finish(node, 0, size)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            let text = format!("the file has more than {NODES_MAX} values after its aliases are expanded; split it");
            return Err(YamlError { place, text });
        }
        Ok(())
    }

    fn open(&mut self, place: Place, anchor: usize, items: Items<'t>) -> Result<(), YamlError> {
        if self.open.len() == DEPTH_MAX {
            let text = format!("maps and lists nest more than {DEPTH_MAX} deep; no rule needs that");
            return Err(YamlError { place, text });
        }
        let nodes_before = self.nodes;
        self.count(1, place)?;
        self.open.push(Open { place, anchor, nodes_before, items });
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlError> {
        let Some(Open { place, anchor, nodes_before, items }) = self.open.pop() else { return Ok(()) };
        let value = match items {
            Items::List(items) => Value::List(items),
            Items::Map { pairs, .. } => Value::Map(expand_merges(pairs)?),
        };
        let size = self.nodes - nodes_before;
        self.finish(Node { place, value }, anchor, size)
    }

    /// Puts a finished value where it belongs, and keeps a copy if it has an anchor.
    fn finish(&mut self, node: Node<'t>, anchor: usize, size: usize) -> Result<(), YamlError> {
        if anchor != 0 {
            // The copy counts too: it takes as much memory as the value.
            self.count(size, node.place)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Map { pairs, key }) => match key.take() {
                None => *key = Some(node),
                Some(key) => pairs.push(Pair { key, value: node, merged: false }),
            },
        }
        Ok(())
    }
}

fn scalar_value<'t>(
    text: Cow<'t, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    place: Place,
) -> Result<Value<'t>, YamlError> {
    let kind = match tag {
        None if style == ScalarStyle::Plain => scalar::resolve(&text),
        None => Kind::Text,
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "binary" => {
            let Some(bytes) = scalar::base64(&text) else {
                return Err(YamlError { place, text: "!!binary value contains invalid base64 data".to_owned() });
            };
            return Ok(match String::from_utf8(bytes) {
                Ok(text) => Value::Scalar(Cow::Owned(text), Kind::Text),
                Err(_) => Value::Scalar(text, Kind::NotText),
            });
        }
        Some(tag) if tag.is_yaml_core_schema() => {
            let Some(kind) = scalar::resolve_tagged(&tag.suffix, &text) else {
                let text = format!("cannot decode '{}' as a !!{}", super::error::quoted(&text), tag.suffix);
                return Err(YamlError { place, text });
            };
            kind
        }
        // A tag that nobody knows leaves a text.
        Some(_) => Kind::Text,
    };
    Ok(Value::Scalar(text, kind))
}

/// Puts the pairs of every `<<` in its place.
fn expand_merges(pairs: Vec<Pair<'_>>) -> Result<Vec<Pair<'_>>, YamlError> {
    let is_merge = |pair: &Pair<'_>| matches!(pair.key.value, Value::Scalar(_, Kind::Merge));
    if !pairs.iter().any(is_merge) {
        return Ok(pairs);
    }
    let mut expanded = Vec::with_capacity(pairs.len());
    for pair in pairs {
        if !is_merge(&pair) {
            expanded.push(pair);
            continue;
        }
        let place = pair.value.place;
        let maps = match pair.value.value {
            Value::List(items) => items,
            value => vec![Node { place, value }],
        };
        // Of several maps the earlier ones win, so they come last.
        for map in maps.into_iter().rev() {
            let Value::Map(merged) = map.value else {
                let text = "map merge requires map or sequence of maps as the value of '<<'";
                return Err(YamlError { place: map.place, text: text.to_owned() });
            };
            expanded.extend(merged.into_iter().map(|pair| Pair { merged: true, ..pair }));
        }
    }
    Ok(expanded)
}

// === impl Node ===

impl Node<'_> {
    /// The value in few words, for a sentence.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Scalar(_, Kind::Null) => "nothing".to_owned(),
            Value::Scalar(text, Kind::Bool(_)) => format!("the boolean {text}"),
            Value::Scalar(text, Kind::Int(_) | Kind::Beyond | Kind::Float(_)) => format!("the number {text}"),
            Value::Scalar(text, Kind::Text | Kind::Merge) => format!("the text '{}'", super::error::quoted(text)),
            Value::Scalar(_, Kind::NotText) => "binary data".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}
