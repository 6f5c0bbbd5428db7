//! Arranges choices with shared prefixes as a tree, so that each shared part goes through the model once.
//!
//! For example, a sweep asks a question after each sentence of a reasoning. That becomes one pass: the longest text,
//! and after each of its sentences a branch with the question and the options.

use super::choice::Choice;
use super::lane::Lane;
use std::ops::Range;

/// A part of a context.
pub struct Node {
    /// The choice whose tokens these are.
    pub owner: usize,
    pub tokens: Range<usize>,
    /// The node that it follows; none if it follows a cache, or nothing.
    pub parent: Option<usize>,
    /// The choice whose cache it is added to.
    pub cache: Option<usize>,
}

/// The contexts of some choices.
pub struct Tree {
    pub nodes: Vec<Node>,
    /// The last node of each choice's context.
    pub ends: Vec<usize>,
}

/// How many tokens a context shares with others in the same pass, if that is enough to join them.
pub fn joins(context: &Lane, others: &[Choice]) -> Option<usize> {
    let each = others.iter().map(|other| shared(context, &other.context).unwrap_or(0));
    let best = each
        .clone()
        .max()
        .filter(|best| *best > 0 && *best >= context.input.sounds_end())?;
    // The shared part must reach into what is read in this pass: before that, there is no node to follow.
    let is_cached = |(other, shared): (&Choice, usize)| {
        let lane = &other.context;
        !lane.waits && shared == best && best <= lane.cache.len()
    };
    (!others.iter().zip(each).any(is_cached)).then_some(best)
}

fn shared(one: &Lane, other: &Lane) -> Option<usize> {
    (one.input.loras == other.input.loras).then(|| one.input.common(&other.input))
}

impl Tree {
    /// The tree of some choices, where the waiting ones join earlier ones as [`joins`] found. The cache goes to the
    /// longest text of a tree, all of which is kept.
    pub fn of(choices: &mut [Choice]) -> Tree {
        let mut tree = Tree {
            nodes: Vec::new(),
            ends: Vec::new(),
        };
        let mut roots: Vec<usize> = Vec::new();
        for (number, choice) in choices.iter().enumerate() {
            let context = &choice.context;
            let before = choices[..number].iter().map(|other| shared(context, &other.context));
            let best = before.enumerate().filter_map(|(other, shared)| Some((shared?, other)));
            // In a tie, the first.
            match best
                .max_by_key(|(shared, other)| (*shared, usize::MAX - other))
                .filter(|_| context.waits)
            {
                None => {
                    tree.ends.push(tree.nodes.len());
                    roots.push(number);
                    tree.add(number, context.cache.len()..context.input.tokens.len(), None);
                }
                Some((shared, other)) => {
                    roots.push(roots[other]);
                    let above = tree.cut(tree.ends[other], shared);
                    let all = context.input.tokens.len();
                    tree.ends.push(if shared < all { tree.nodes.len() } else { above });
                    if shared < all {
                        tree.add(number, shared..all, Some(above));
                    }
                }
            }
        }
        tree.hand_caches_over(choices, &roots);
        tree
    }

    fn add(&mut self, owner: usize, tokens: Range<usize>, parent: Option<usize>) {
        self.nodes.push(Node {
            owner,
            tokens,
            parent,
            cache: None,
        });
    }

    /// Splits the node that is this many tokens down the path to `end`, and returns its first part.
    fn cut(&mut self, end: usize, tokens: usize) -> usize {
        let mut node = end;
        while self.nodes[node].tokens.start >= tokens
            && let Some(parent) = self.nodes[node].parent
        {
            node = parent;
        }
        let Range { start, end } = self.nodes[node].tokens;
        if tokens < end {
            let below = self.nodes.len();
            for other in self.nodes.iter_mut().filter(|other| other.parent == Some(node)) {
                other.parent = Some(below);
            }
            self.ends
                .iter_mut()
                .filter(|end| **end == node)
                .for_each(|end| *end = below);
            self.add(self.nodes[node].owner, tokens..end, Some(node));
            self.nodes[node].tokens = start..tokens;
        }
        node
    }

    fn hand_caches_over(&mut self, choices: &mut [Choice], roots: &[usize]) {
        for (number, choice) in choices.iter_mut().enumerate() {
            if choice.context.waits {
                let own = self.nodes.iter().filter(|node| node.owner == number);
                let start = own.map(|node| node.tokens.start).min();
                choice.context.reused = start.unwrap_or(choice.context.input.tokens.len());
            }
        }
        for root in (0..choices.len()).filter(|&number| roots[number] == number) {
            if !choices[root].has_cache() {
                continue;
            }
            let length = |number: &usize| choices[*number].context.input.tokens.len();
            let longest = (root..choices.len()).filter(|&number| roots[number] == root);
            let heir = longest
                .max_by_key(|number| (length(number), usize::MAX - number))
                .unwrap_or(root);
            if heir != root {
                let keeps = choices[root].context.keep_at.take().is_some();
                let cache = std::mem::take(&mut choices[root].context.cache);
                let context = &mut choices[heir].context;
                context.cache = cache;
                context.keep_at = keeps.then(|| context.input.tokens.len() - 1);
            }
            let mut node = Some(self.ends[heir]);
            while let Some(number) = node {
                self.nodes[number].cache = Some(heir);
                node = self.nodes[number].parent;
            }
        }
    }

    /// The nodes, each after the one that it follows.
    pub fn in_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| self.nodes[node].parent.is_none())
            .collect();
        let mut next = 0;
        while next < order.len() {
            let parent = Some(order[next]);
            order.extend((0..self.nodes.len()).filter(|&node| self.nodes[node].parent == parent));
            next += 1;
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::Input;

    fn choices(texts: &[&str]) -> Vec<Choice> {
        let choice = |(number, text): (usize, &&str)| {
            let mut context = Lane::new(Input::text(text.bytes().map(u32::from).collect()));
            context.waits = number > 0;
            context.keep_at = (number == 0).then_some(1);
            Choice {
                job: number as u64,
                context,
                options: vec![vec![1]],
                bytes: vec![1],
            }
        };
        texts.iter().enumerate().map(choice).collect()
    }

    /// The text along the path to this node.
    fn spelled(tree: &Tree, choices: &[Choice], end: usize) -> String {
        let node = &tree.nodes[end];
        let before = node
            .parent
            .map_or(String::new(), |parent| spelled(tree, choices, parent));
        let own = &choices[node.owner].context.input.tokens[node.tokens.clone()];
        before + &own.iter().map(|&token| char::from(token as u8)).collect::<String>()
    }

    /// Each text is the path to its node, no token is read twice, and the longest text keeps the cache.
    #[track_caller]
    fn check(texts: &[&str], tokens: usize, heir: usize) {
        let mut choices = choices(texts);
        for (number, text) in texts.iter().enumerate().skip(1) {
            let (before, rest) = choices.split_at(number);
            assert!(joins(&rest[0].context, before).is_some(), "{text}");
        }
        let tree = Tree::of(&mut choices);
        for (text, end) in texts.iter().zip(&tree.ends) {
            assert_eq!(&spelled(&tree, &choices, *end), text);
        }
        assert_eq!(tree.nodes.iter().map(|node| node.tokens.len()).sum::<usize>(), tokens);
        let order = tree.in_order();
        let place = |node: usize| order.iter().position(|other| *other == node).unwrap();
        for (number, node) in tree.nodes.iter().enumerate() {
            assert!(node.parent.is_none_or(|parent| place(parent) < place(number)));
        }
        let caches: Vec<usize> = (0..texts.len()).filter(|&number| choices[number].has_cache()).collect();
        assert_eq!(caches, [heir]);
        let reused: usize = choices.iter().map(|choice| choice.context.reused).sum();
        let all: usize = texts.iter().map(|text| text.len()).sum();
        assert_eq!(all - reused, tokens, "what is read and what is reused are all there is");
    }

    #[test]
    fn a_growing_text_is_read_once_with_a_branch_for_each_end() {
        check(
            &["Q. so?", "Q. A. so?", "Q. A. B. so?", "Q. A. B. C. so?"],
            6 + 6 + 6 + 6,
            3,
        );
        check(&["Q. A. so?", "Q. A. B. so?", "Q. so?"], 9 + 6 + 3, 1);
    }

    #[test]
    fn a_text_that_is_a_beginning_of_another_has_no_tokens_of_its_own() {
        check(&["one", "one two", "one", "one two three"], 13, 3);
        check(&["one two", "one", "one two"], 7, 0);
        check(&["ab", "ac", "abd", "acd", "abde"], 2 + 1 + 1 + 1 + 1, 4);
    }

    #[test]
    fn what_shares_nothing_that_is_read_now_does_not_join() {
        let apart = choices(&["one", "two"]);
        assert_eq!(joins(&apart[1].context, &apart[..1]), None);
        assert_eq!(joins(&apart[1].context, &[]), None);
    }
}
