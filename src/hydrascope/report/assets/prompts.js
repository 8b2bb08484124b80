// all prompts: searched by their words, with the numbers of the knock-out that is chosen
const prompts = (() => {
  const table = document.querySelector("#all-prompts table.sortable");
  if (!table) return { choose: () => {}, told: () => [] };
  const { names, places, values } = read("prompt-values");
  const numbers = integers(values, Int16Array);
  const rows = [...table.tBodies[0].rows];
  const search = document.getElementById("search");
  const found = document.getElementById("found");
  const words = rows.map((row) => row.textContent.toLowerCase());

  search.closest("label").hidden = false;
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    rows.forEach((row, i) => { row.hidden = !words[i].includes(wanted); });
    found.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  });

  function choose(name) {
    const k = names.indexOf(name);
    rows.forEach((row, i) => [0, 1].forEach((effect) => {
      const value = numbers[(effect * names.length + k) * rows.length + i] / 10 ** places;
      const cell = row.cells[row.cells.length - 2 + effect];
      cell.dataset.value = value;
      cell.textContent = fixed(value, places);
    }));
  }
  const told = (i) => [...rows[i].cells].slice(0, 3).map((cell) => cell.textContent);
  return { choose, told };
})();
