//! Tables in Markdown, as people paste them into issues and papers. The shape is lm-eval's, with our columns after its.

/// A table in the making.
#[derive(Debug, Default)]
pub struct Table {
    heads: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

/// Which side a column's words stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

impl Table {
    pub fn new(heads: &[(&str, Align)]) -> Self {
        Table {
            heads: heads.iter().map(|(name, align)| ((*name).to_owned(), *align)).collect(),
            rows: Vec::new(),
        }
    }

    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        // A bar or a line break inside a cell would end it.
        let clean = |cell: S| cell.into().replace('|', "\\|").replace(['\n', '\r'], " ");
        self.rows.push(cells.into_iter().map(clean).collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .chain([self.heads[column].0.chars().count(), 3])
                .max()
                .unwrap_or(3)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let line = |cells: &[&str]| {
            let mut text = String::from("|");
            for (column, width) in widths.iter().enumerate() {
                let cell = cells.get(column).copied().unwrap_or("");
                let gap = " ".repeat(width - cell.chars().count());
                text += &match self.heads[column].1 {
                    Align::Left => format!("{cell}{gap}|"),
                    Align::Right => format!("{gap}{cell}|"),
                };
            }
            text + "\n"
        };
        let mut text = line(&self.heads.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
        text.push('|');
        for (column, width) in widths.iter().enumerate() {
            let dashes = "-".repeat(width - 1);
            text += &match self.heads[column].1 {
                Align::Left => format!("-{dashes}|"),
                Align::Right => format!("{dashes}:|"),
            };
        }
        text.push('\n');
        for row in &self.rows {
            text += &line(&row.iter().map(String::as_str).collect::<Vec<_>>());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_can_be_pasted() {
        let mut table = Table::new(&[("Task", Align::Left), ("Value", Align::Right)]);
        table.row(["arc|easy", "0.5"]);
        table.row(["é", "12.25"]);
        assert_eq!(
            table.render(),
            "|Task     |Value|\n|---------|----:|\n|arc\\|easy|  0.5|\n|é        |12.25|\n"
        );
    }
}
