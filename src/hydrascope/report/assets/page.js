"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const root = document.documentElement;
  const toggle = document.getElementById("toggle");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const themes = read("themes");
  const panels = [...document.querySelectorAll(".chart")].map((box) => ({ box, ...read(`${box.id}-spec`), view: null }));
  for (const panel of panels) {
    for (const [name, packed] of Object.entries(panel.datasets)) panel.datasets[name] = unpacked(packed);
  }
  let chosen = null;

  function unpacked({ rows, columns }) {
    const records = Array.from({ length: rows }, () => ({}));
    for (const [name, column] of Object.entries(columns)) {
      const value = column.levels ? (i) => column.levels[column.codes[i]] : (i) => column[i];
      records.forEach((record, i) => { record[name] = value(i); });
    }
    return records;
  }

  const linked = () => new URLSearchParams(location.hash.slice(1)).get("ablated");
  const offers = (param) => param.name === "knocked" && param.bind?.options?.includes(linked());

  const wanted = () => chosen ?? (system.matches ? "dark" : "light");

  const recoloured = (spec, theme) => {
    let text = JSON.stringify(spec);
    for (const [from, to] of Object.entries(themes[theme].colours)) text = text.replaceAll(from, to);
    return JSON.parse(text);
  };

  async function draw(panel, theme) {
    const spec = recoloured(panel.spec, theme);
    for (const param of spec.params ?? []) {
      if (panel.view && param.bind) param.value = panel.view.signal(param.name);
      else if (offers(param)) param.value = linked();
    }
    panel.view?.finalize();
    const options = { renderer: "svg", actions: false, config: themes[theme].config, ast: false, hover: false };
    try {
      panel.view = (await vegaEmbed(panel.box, { ...spec, datasets: structuredClone(panel.datasets) }, options)).view;
      panel.box.querySelector("svg").setAttribute("aria-hidden", "true");
      if (spec.params?.some((param) => param.name === "knocked")) {
        panel.view.addSignalListener("knocked", (_, name) => history.replaceState(null, "", `#ablated=${name}`));
      }
    } catch (error) {
      panel.view = null;
      panel.box.innerHTML = "";
      const message = Object.assign(document.createElement("p"), { className: "failed" });
      message.textContent = `This chart could not be drawn: ${error.message}`;
      panel.box.append(message);
      console.error(error);
    }
  }

  function show(theme) {
    root.dataset.theme = theme;
    toggle.textContent = theme === "dark" ? "Light" : "Dark";
    toggle.setAttribute("aria-label", `Switch to the ${theme === "dark" ? "light" : "dark"} theme`);
    return Promise.all(panels.map((panel) => draw(panel, theme))).then(() => { root.dataset.drawn = theme; });
  }

  toggle.hidden = false;
  toggle.addEventListener("click", () => { chosen = wanted() === "dark" ? "light" : "dark"; show(chosen); });
  system.addEventListener("change", () => { if (!chosen) show(wanted()); });
  addEventListener("hashchange", () => {
    for (const { spec, view } of panels) if (view && spec.params?.some(offers)) view.signal("knocked", linked()).runAsync();
  });
  addEventListener("beforeprint", () => { if (wanted() === "dark") show("light"); });
  addEventListener("afterprint", () => { if (wanted() === "dark") show("dark"); });

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") === "descending" || (!head.hasAttribute("aria-sort") && column === 0);
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const key = (row) => Number(row.cells[column].dataset.value ?? "NaN");
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return ascending ? x - y : y - x;
      };
      body.append(...[...body.rows].sort(order));
    }));
  }

  show(wanted());
})();
