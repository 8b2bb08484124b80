// the prompts behind one cell of the compensation matrix, chosen by a press on it or from two lists
const cells = (() => {
  const box = document.getElementById("cell");
  if (!box) return { choose: () => {} };
  const { ablated, writers, first, count, places, bits, values } = read("cell-prompts");
  const numbers = integers(values, bits === 16 ? Int16Array : Int32Array);
  const at = (field, cell) => numbers[field * count + cell];
  const key = (name, writer) => `${name} ${writer}`;
  const found = new Map(Array.from({ length: count }, (_, cell) => [key(ablated[at(0, cell)], writers[at(1, cell)]), cell]));
  const part = box.querySelector("select.part");
  const writer = box.querySelector("select.writer");
  const rows = [...box.querySelector("tbody").rows];

  function show(name, changed) {
    const cell = found.get(key(name, changed));
    if (cell === undefined) return;
    part.value = name;
    writer.replaceChildren(...writers.filter((one) => found.has(key(name, one))).map((one) => new Option(one)));
    writer.value = changed;
    for (const [kind, text] of [["part", name], ["writer", changed]]) box.querySelector(`span.${kind}`).textContent = text;
    rows.forEach((row, i) => {
      const told = [...prompts.told(at(2 + i, cell)), fixed(at(2 + rows.length + i, cell) / 10 ** places, places)];
      told.forEach((text, column) => { row.cells[column].textContent = text; });
    });
  }

  const mark = (detail) => document.dispatchEvent(new CustomEvent("mark", { detail }));
  box.querySelector("[hidden]").hidden = false;
  part.replaceChildren(...ablated.map((name) => new Option(name)));
  part.addEventListener("change", () => mark({ ablated: part.value, writer: first[part.value] }));
  writer.addEventListener("change", () => mark({ ablated: part.value, writer: writer.value }));
  document.addEventListener("mark", ({ detail }) => show(detail.ablated, detail.writer));
  const shown = () => ["part", "writer"].map((kind) => box.querySelector(`span.${kind}`).textContent);
  show(...shown());
  return { choose: (name) => { if (name !== shown()[0]) show(name, first[name]); } };
})();
