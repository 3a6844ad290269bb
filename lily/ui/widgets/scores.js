// Draws a small table from props.value = {caption, columns, rows: [[name, figure, ...], ...]}. Gradio
// runs this file as a function body with `element`, `props` and `watch` in scope.

function cell(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function draw() {
  const value = props.value;
  if (!value || !Array.isArray(value.rows)) return;
  const table = element.querySelector("table");
  table.hidden = value.rows.length === 0;
  table.caption.textContent = value.caption;
  table.tHead.rows[0].replaceChildren(...value.columns.map((name) => cell("th", name)));
  table.tBodies[0].replaceChildren(...value.rows.map(([name, ...figures]) => {
    const row = document.createElement("tr");
    row.append(cell("th", name), ...figures.map((figure) => cell("td", figure)));
    return row;
  }));
}

watch("value", draw);
draw();
