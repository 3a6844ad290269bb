// Addresses of files on the server, whether they are there, and saving one under a name.

function address(path) {
  const root = (window.gradio_config?.root ?? "").replace(/\/$/, "");
  return `${root}/gradio_api/file=${path.split("/").map(encodeURIComponent).join("/")}`;
}

// 200, 404 of a file that has expired, or 0 if the server does not answer.
function stateOf(path) {
  return fetch(address(path), { method: "HEAD" }).then((answer) => answer.status, () => 0);
}

function save(href, name) {
  const link = document.createElement("a");
  Object.assign(link, { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
