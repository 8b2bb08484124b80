// one choice for the whole page: charts, sentence, equation, caption, prompts and address speak of one knock-out
{
  const picker = document.getElementById("knocked");
  const said = read("knockouts");
  const linked = () => new URLSearchParams(location.hash.slice(1)).get("ablated");

  const choose = (name) => {
    const [sentence, terms, caption] = said[name];
    picker.value = name;
    document.getElementById("sentence").textContent = sentence;
    document.querySelectorAll(".hero .equation dd").forEach((cell, i) => { if (terms[i]) cell.textContent = terms[i]; });
    if (caption) document.querySelector(".hero figcaption p").textContent = caption;
    for (const chosen of document.querySelectorAll(".chosen")) chosen.textContent = name;
    prompts.choose(name);
    cells.choose(name);
    charts.choose(name);
  };
  const pick = (name) => { history.replaceState(null, "", `#ablated=${name}`); choose(name); };

  if (picker) {
    picker.closest(".pick").hidden = false;
    picker.addEventListener("change", () => pick(picker.value));
    document.addEventListener("mark", ({ detail }) => { if (Object.hasOwn(said, detail.ablated)) pick(detail.ablated); });
    addEventListener("hashchange", () => { if (Object.hasOwn(said, linked())) choose(linked()); });
    choose(Object.hasOwn(said, linked()) ? linked() : picker.value);
  }
  charts.start();
}
