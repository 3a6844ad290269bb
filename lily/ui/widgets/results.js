// Draws the figures of a result: facts, distances to a reference, files, the command line.

function made(kind, content) {
  const element = document.createElement(kind);
  element.textContent = content;
  return element;
}

function drawFigures(element, value, address) {
  const find = (selector) => element.querySelector(`.figures ${selector}`);
  element.querySelector(".figures").hidden = !value.facts.length;
  find(".facts").replaceChildren(...value.facts.map(([name, content]) => {
    const pair = document.createElement("div");
    pair.append(made("dt", name), made("dd", content));
    return pair;
  }));
  const { caption, columns, rows } = value.scores;
  const table = find(".scores");
  table.hidden = !rows.length;
  table.caption.textContent = caption;
  table.tHead.rows[0].replaceChildren(...columns.map((name) => made("th", name)));
  table.tBodies[0].replaceChildren(...rows.map(([name, ...cells]) => {
    const row = document.createElement("tr");
    row.append(made("th", name), ...cells.map((cell) => made("td", cell)));
    return row;
  }));
  find(".files").replaceChildren(...value.files.map(({ label, path, name }) => {
    const link = made("a", label);
    Object.assign(link, { href: address(path), download: name });
    return link;
  }));
  find(".command").hidden = !value.command;
  // A line breaks between options, never within one.
  find(".command pre").replaceChildren(...value.command.split(/ (?=-)/).flatMap((part, i) => (
    [i ? " " : "", made("span", part)]
  )));
}
