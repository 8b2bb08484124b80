"use strict";
const read = (id) => { const found = document.getElementById(id); return found && JSON.parse(found.textContent); };
const integers = (packed, Kind) => new Kind(Uint8Array.from(atob(packed), (byte) => byte.charCodeAt(0)).buffer);
const fixed = (value, places) => value.toFixed(places).replace(/^-/, "−");

// drawing: every chart in the page's theme, showing the knock-out that is chosen
const charts = (() => {
  const root = document.documentElement;
  const toggle = document.getElementById("toggle");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const themes = read("themes");
  const panels = [...document.querySelectorAll(".chart")].map((box) => ({ box, ...read(`${box.id}-spec`), view: null }));
  for (const panel of panels) {
    for (const [name, packed] of Object.entries(panel.datasets)) panel.datasets[name] = unpacked(packed);
    panel.offered = panel.spec.params?.find((param) => param.name === "knocked")?.bind?.options;
    if (panel.offered && document.getElementById("knocked")) {
      panel.note = Object.assign(document.createElement("p"), { className: "elsewhere", hidden: true });
      panel.box.before(panel.note);
    }
  }
  let theme = null;
  let knocked = null;

  function unpacked({ rows, columns }) {
    const records = Array.from({ length: rows }, () => ({}));
    for (const [name, column] of Object.entries(columns)) {
      const value = column.levels ? (i) => column.levels[column.codes[i]] : (i) => column[i];
      records.forEach((record, i) => { record[name] = value(i); });
    }
    return records;
  }

  const wanted = () => theme ?? (system.matches ? "dark" : "light");

  const recoloured = (spec, name) => {
    let text = JSON.stringify(spec);
    for (const [from, to] of Object.entries(themes[name].colours)) text = text.replaceAll(from, to);
    return JSON.parse(text);
  };

  const follows = (panel) => panel.note && panel.offered.includes(knocked);

  function remark(panel) {
    if (!panel.note || !knocked) return;
    const shown = panel.view?.signal("knocked");
    panel.note.hidden = follows(panel);
    panel.note.textContent = `${knocked} is not among the ${panel.offered.length} knock-outs of this chart; it shows ${shown}.`;
  }

  async function draw(panel, name) {
    const spec = recoloured(panel.spec, name);
    for (const param of spec.params ?? []) {
      if (panel.view && param.bind) param.value = panel.view.signal(param.name);
      if (param.name === "knocked" && panel.note) {
        delete param.bind;
        if (follows(panel)) param.value = knocked;
      }
    }
    // on a phone a title has the whole width and smaller letters, lest its end be cut off
    if (panel.box.clientWidth < 480 && spec.title) {
      Object.assign(spec.title, { frame: "bounds", limit: panel.box.clientWidth, fontSize: 11.5 });
    }
    panel.view?.finalize();
    const options = { renderer: "svg", actions: false, config: themes[name].config, ast: false, hover: false };
    try {
      panel.view = (await vegaEmbed(panel.box, { ...spec, datasets: structuredClone(panel.datasets) }, options)).view;
      panel.box.querySelector("svg").setAttribute("aria-hidden", "true");
      panel.view.addEventListener("click", (_, item) => {
        if (item?.datum) document.dispatchEvent(new CustomEvent("mark", { detail: item.datum }));
      });
      remark(panel);
    } catch (error) {
      panel.view = null;
      panel.box.innerHTML = "";
      const message = Object.assign(document.createElement("p"), { className: "failed" });
      message.textContent = `This chart could not be drawn: ${error.message}`;
      panel.box.append(message);
      console.error(error);
    }
  }

  function show(name) {
    root.dataset.theme = name;
    toggle.textContent = name === "dark" ? "Light" : "Dark";
    toggle.setAttribute("aria-label", `Switch to the ${name === "dark" ? "light" : "dark"} theme`);
    return Promise.all(panels.map((panel) => draw(panel, name))).then(() => { root.dataset.drawn = name; });
  }

  function choose(name) {
    knocked = name;
    for (const panel of panels) {
      if (panel.view && follows(panel)) panel.view.signal("knocked", name).runAsync();
      if (panel.view) remark(panel);
    }
  }

  toggle.hidden = false;
  toggle.addEventListener("click", () => { theme = wanted() === "dark" ? "light" : "dark"; show(theme); });
  system.addEventListener("change", () => { if (!theme) show(wanted()); });
  addEventListener("beforeprint", () => { if (wanted() === "dark") show("light"); });
  addEventListener("afterprint", () => { if (wanted() === "dark") show("dark"); });
  return { panels, choose, start: () => show(wanted()) };
})();
