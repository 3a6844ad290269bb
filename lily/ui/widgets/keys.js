// The keys of the player; a part of player.js, whose names it uses.

// Space, arrows, digits and letters, wherever the focus is, unless it is where they mean something
// else: in a text, a list or a slider; and on a button that was reached by keyboard, space presses.
function onKey(event) {
  if (!element.isConnected) {
    document.removeEventListener("keydown", onKey);
    return;
  }
  if (!transport || event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target.closest?.("*") ?? document.body;
  const typing = target.isContentEditable
    || target.matches("textarea, select, input:not([type=range], [type=checkbox], [type=radio])");
  const steering = target.matches("[type=range], [type=radio], [role=tab], [role=listbox], [role=option]");
  const pressing = target.matches("button, summary, a, [type=checkbox], [type=radio]")
    && target.matches(":focus-visible") && !target.closest(".sources");
  if (typing) return;
  const number = Number(event.key);
  const { test } = blind;
  const named = "ABX".indexOf(event.key.toUpperCase());
  if (event.key === " " && !pressing) toggle();
  else if (event.key === "ArrowLeft" && !steering) move(-STEP);
  else if (event.key === "ArrowRight" && !steering) move(STEP);
  else if (event.key.toLowerCase() === "l") loop.press();
  else if (event.key === "Home" && target === find(".view")) transport.seek(0);
  else if (event.key === "End" && target === find(".view")) transport.seek(transport.frames);
  else if (test && event.key.length === 1 && named >= 0) blind.hear("ABX"[named]);
  else if (test && number >= 1 && number <= 3) blind.hear("ABX"[number - 1]);
  else if (!test && number >= 1 && number <= shown.sources.length) {
    listen(shown.sources[number - 1].key);
  } else return;
  event.preventDefault();
}

function move(seconds) {
  transport.seek(transport.position() + seconds * RATE);
}
