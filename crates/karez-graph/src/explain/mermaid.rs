//! A plan as a Mermaid flowchart: a box per chain, arrows named by exchange.

use std::fmt::Write as _;

use super::Explanation;

impl Explanation {
    /// A Mermaid flowchart: one subgraph for each chain.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        let id = |vertex: usize, node: usize| format!("v{vertex}n{node}");
        // Writing to a String cannot fail.
        for (v, vertex) in self.vertices.iter().enumerate() {
            let _ = writeln!(out, "  subgraph v{v}[\"{} x{}\"]", escaped(&vertex.name), vertex.parallelism);
            let _ = writeln!(out, "    direction LR");
            for (n, node) in vertex.nodes.iter().enumerate() {
                let text = escaped(&format!("{}: {}", node.name, node.type_name));
                let (open, close) = match node.kind {
                    "operator" => ("[\"", "\"]"),
                    _ => ("([\"", "\"])"),
                };
                let _ = writeln!(out, "    {}{open}{text}{close}", id(v, n));
            }
            for n in 1..vertex.nodes.len() {
                let _ = writeln!(out, "    {} --> {}", id(v, n - 1), id(v, n));
            }
            let _ = writeln!(out, "  end");
        }
        for e in &self.edges {
            let node = self.vertices[e.from].nodes.iter().position(|n| n.name == e.node).unwrap_or(0);
            let label = if e.port == "main" { e.exchange.clone() } else { format!("{}, {}", e.port, e.exchange) };
            let _ = writeln!(out, "  {} -->|\"{}\"| {}", id(e.from, node), escaped(&label), id(e.to, 0));
        }
        out
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
