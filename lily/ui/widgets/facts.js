// Draws the line of facts from props.value = {note, facts: [[name, value], ...]}. Gradio runs this
// file as a function body with `element`, `props` and `watch` in scope; text is only set as text.

function draw() {
  const value = props.value;
  if (!value || !Array.isArray(value.facts)) return;
  const note = element.querySelector(".note");
  note.textContent = value.note;
  note.hidden = !value.note;
  const pairs = value.facts.map(([name, text]) => {
    const pair = document.createElement("div");
    const term = document.createElement("dt");
    const detail = document.createElement("dd");
    term.textContent = name;
    detail.textContent = text;
    pair.append(term, detail);
    return pair;
  });
  element.querySelector(".facts").replaceChildren(...pairs);
}

watch("value", draw);
draw();
