// every chart as SVG, PNG or CSV, made from what is drawn
{
  const save = (name, url) => Object.assign(document.createElement("a"), { download: name, href: url }).click();
  const quoted = (value) => /[",\n]/.test(`${value ?? ""}`) ? `"${`${value}`.replaceAll('"', '""')}"` : `${value ?? ""}`;

  const csv = ({ view, datasets, offered }) => {
    const [rows] = Object.values(datasets).sort((a, b) => b.length - a.length);
    const chosen = offered && "ablated" in rows[0] ? rows.filter((row) => row.ablated === view.signal("knocked")) : rows;
    const names = Object.keys(rows[0]);
    return [names, ...chosen.map((row) => names.map((name) => row[name]))].map((row) => row.map(quoted).join(",")).join("\n");
  };

  const made = {
    SVG: async ({ view }) => URL.createObjectURL(new Blob([await view.toSVG()], { type: "image/svg+xml" })),
    PNG: ({ view }) => view.toImageURL("png", 2),
    CSV: async (panel) => URL.createObjectURL(new Blob([csv(panel)], { type: "text/csv" })),
  };
  for (const panel of charts.panels) {
    const bar = Object.assign(document.createElement("p"), { className: "downloads" });
    for (const [form, url] of Object.entries(made)) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: form });
      button.setAttribute("aria-label", `Download this chart as ${form}`);
      button.addEventListener("click", async () => save(`${panel.box.id}.${form.toLowerCase()}`, await url(panel)));
      bar.append(button);
    }
    panel.box.after(bar);
  }
}
