"use strict";
(() => {
  const by = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const id = (name) => document.getElementById(name);

  // Elements are made of text alone: what comes from files never becomes markup.
  const make = (tag, { text, ...attributes } = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes))
      element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    element.append(...children);
    return element;
  };

  // Filters -----------------------------------------------------------------
  const form = id("filters");
  const FACETS = ["dataset", "ipc", "network", "preset"];
  const filterable = by("[data-dataset]");
  const sections = by("main > section");

  const matches = (element, wanted) =>
    FACETS.every((name) => {
      const own = element.dataset[name];
      return !wanted[name] || !own || own === wanted[name];  // none: of several
    });

  const filter = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const method = wanted.method.trim().toLowerCase();
    const named = (element) =>
      !method || (element.dataset.method ?? "").toLowerCase().includes(method);
    for (const element of filterable) {
      const lines = by("li[data-method]", element);
      for (const line of lines) line.hidden = !named(line);
      const any = lines.length ? lines.some((line) => !line.hidden) : named(element);
      element.hidden = !(matches(element, wanted) && (any || element.matches(".map")));
    }
    const rows = by(".counted tbody tr");
    const shown = rows.filter((row) => !row.hidden).length;
    id("count").textContent = `${shown} of ${rows.length} rows`;
    for (const section of sections) {
      const items = by("[data-dataset]", section);
      section.classList.toggle(
        "empty", items.length > 0 && items.every((item) => item.hidden));
    }
    const kept = Object.entries(wanted).filter(([, value]) => value);
    const hash = new URLSearchParams(kept).toString();
    try {
      history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
    } catch { /* some browsers refuse this for files; the filter works without */ }
  };

  const start = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    let any = false;
    for (const field of by("select, input", form)) {
      const value = asked.get(field.name);
      if (value === null) continue;
      field.value = value;
      any = true;
    }
    form.hidden = false;
    if (any) filter();
    else {
      const count = by(".counted tbody tr").length;
      id("count").textContent = `${count} of ${count} rows`;
    }
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));

  // Sorting -----------------------------------------------------------------
  const order = new Intl.Collator("en", { numeric: true });
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.key ?? cell.textContent.trim();
    const number = text === "" ? NaN : Number(text);
    return { text, number, empty: text === "" };
  };
  const compare = (one, other) => {
    if (!Number.isNaN(one.number) && !Number.isNaN(other.number))
      return one.number - other.number;
    return order.compare(one.text, other.text);
  };
  const sort = (button) => {
    const heading = button.closest("th");
    const table = button.closest("table");
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of by("thead th", table)) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const keyed = [...table.tBodies[0].rows].map((row) =>
      [key(row, heading.cellIndex), row]);
    keyed.sort(([one], [other]) => {
      if (one.empty || other.empty) return one.empty - other.empty;
      return up ? compare(one, other) : compare(other, one);
    });
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };

  // Records -----------------------------------------------------------------
  let data;
  const dialog = id("record");

  const facts = (pairs) => {
    const list = make("dl", { class: "facts" });
    for (const [name, value] of pairs)
      list.append(make("dt", { text: name }), make("dd", { text: String(value) }));
    return list;
  };
  const table = (caption, headings, rows) => {
    const cells = (tag, texts, more) => texts.map((text) => make(tag, { text, ...more }));
    return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
      make("table", {},
        make("caption", { class: "hear", text: caption }),
        make("thead", {}, make("tr", {}, ...cells("th", headings, { scope: "col" }))),
        make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells("td", row, {}))))));
  };
  const recipe = (title, numbers) =>
    make("details", { open: "" }, make("summary", { text: title }),
      table(title, ["Key", "Value", "Set by", "Source"],
        numbers.map((number) => data.lines[number])));

  const copied = (button, text, block) => {
    const select = () => getSelection().selectAllChildren(block);
    const done = () => { button.textContent = "Copied"; };
    if (!navigator.clipboard) return select();
    return navigator.clipboard.writeText(text).then(done, select);
  };

  const record = (entry) => {
    const [method, dataset, ipc, seed] = entry.title;
    const block = make("pre", { tabindex: 0, "aria-label": "Command" },
      make("code", { text: entry.command.line }));
    const copy = make("button", { type: "button", class: "quiet", text: "Copy" });
    copy.addEventListener("click", () => copied(copy, entry.command.line, block));
    const label = `${method} on ${dataset}, IPC ${ipc || "all"}, seed ${seed}`;
    const results = entry.evaluations.map(([network, trial, accuracy, pass, seconds]) =>
      [network, trial, `${accuracy.toFixed(2)} %`, pass, `${seconds} s`]);
    const stages = entry.stages.map(([name, seconds, steps, step, peak]) =>
      [name, `${seconds} s`, steps, `${step} s`, `${(peak / 1e9).toFixed(2)} GB`]);
    const identity = { recipe: entry.digest, preset: entry.preset, status: entry.status };
    if (entry.file) identity.file = entry.file;
    if (entry.error) identity.error = entry.error;
    const hashes = Object.entries(entry.hashes).map(([name, value]) =>
      [`sha256 of ${name}`, value]);
    const article = make("article", {},
      make("h3", { text: label }),
      make("h4", { text: "Make it again" }),
      make("div", { class: "command" }, block, copy));
    if (entry.command.notes.length)
      article.append(make("ul", { class: "hint" },
        ...entry.command.notes.map((text) => make("li", { text }))));
    article.append(
      make("h4", { text: "Networks" }),
      table("Networks", ["Network", "Trial", "Accuracy", "Pass", "Time"], results));
    if (stages.length)
      article.append(make("h4", { text: "Distillation" }),
        table("Distillation", ["Stage", "Time", "Steps", "Median step", "Peak"], stages));
    article.append(
      make("h4", { text: "Identity" }),
      facts([...Object.entries(identity), ...hashes, ...Object.entries(entry.sizes)]),
      make("h4", { text: "Environment" }),
      facts(Object.entries(data.environments[entry.environment])));
    if (entry.settings.length) article.append(recipe("Recipe", entry.settings));
    article.append(recipe("Protocol", entry.protocol));
    return article;
  };

  const open = (button) => {
    data ??= JSON.parse(id("data").textContent);
    const entries = button.dataset.records.split(",").map((n) => data.records[Number(n)]);
    const count = entries.length;
    id("record-title").textContent = count > 1 ? `${count} records behind this mean` : "Record";
    id("record-body").replaceChildren(...entries.map(record));
    dialog.showModal();
    dialog.scrollTop = 0;
  };

  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (target === dialog) dialog.close();
    else if (button?.matches(".sort")) sort(button);
    else if (button?.matches(".open")) open(button);
  });
  id("close").addEventListener("click", () => dialog.close());

  // Light and dark -----------------------------------------------------------
  const theme = id("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let scheme = dark.matches ? "dark" : "light";
  const label = () => { theme.textContent = scheme === "dark" ? "Light" : "Dark"; };
  theme.hidden = false;
  label();
  theme.addEventListener("click", () => {
    scheme = scheme === "dark" ? "light" : "dark";
    document.documentElement.style.colorScheme = scheme;
    label();
  });
  dark.addEventListener("change", () => {
    if (document.documentElement.style.colorScheme) return;
    scheme = dark.matches ? "dark" : "light";
    label();
  });

  start();
})();
