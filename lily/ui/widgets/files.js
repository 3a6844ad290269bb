// Addresses of files on the server, and saving one under a name.

function address(path) {
  const root = (window.gradio_config?.root ?? "").replace(/\/$/, "");
  return `${root}/gradio_api/file=${path.split("/").map(encodeURIComponent).join("/")}`;
}

function save(href, name) {
  const link = document.createElement("a");
  Object.assign(link, { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
