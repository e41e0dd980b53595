// Reads Mermaid texts from standard input, a JSON array of strings; writes for each what Mermaid
// says about it, as a JSON array of {problem} or of what it understood.

import { text } from "node:stream/consumers";

import { JSDOM } from "jsdom";

// DOMPurify, which Mermaid cleans labels with, wants a browser when it is loaded.
const { window } = new JSDOM("");
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await import("mermaid");
mermaid.initialize({ startOnLoad: false, securityLevel: "strict" });

// In a text that it has parsed, Mermaid keeps the place of an entity like #35; with these, and
// gives them to the browser as HTML when it draws.
const shown = (label) => {
  const html = (label ?? "").replaceAll("ﬂ°°", "&#").replaceAll("ﬂ°", "&").replaceAll("¶ß", ";");
  const element = window.document.createElement("div");
  element.innerHTML = html;
  return element.textContent;
};

const understood = async (graph) => {
  // What Mermaid cannot parse it does not draw: people see its message instead.
  await mermaid.parse(graph);
  const { type, db } = await mermaid.mermaidAPI.getDiagramFromText(graph);
  if (!type.startsWith("flowchart")) {
    return { type };
  }
  return {
    type,
    vertices: [...db.getVertices().values()].map((vertex) => ({
      id: vertex.id,
      label: shown(vertex.text),
      shape: vertex.type ?? "",
      classes: vertex.classes,
      markdown: vertex.labelType === "markdown",
      link: vertex.link ?? "",
    })),
    edges: db.getEdges().map(({ start, end, text }) => ({ start, end, label: shown(text) })),
    subgraphs: db
      .getSubGraphs()
      .map(({ id, title, nodes }) => ({ id, title: shown(title), vertices: nodes })),
    classes: [...db.getClasses()].map(([name, { styles }]) => ({ name, styles })),
  };
};

const answers = [];
for (const graph of JSON.parse(await text(process.stdin))) {
  try {
    answers.push(await understood(graph));
  } catch (error) {
    answers.push({ problem: String(error?.message ?? error) || "unknown" });
  }
}
process.stdout.write(JSON.stringify(answers));
