// Lists what this browser remembers (library.js): unfinished runs with a button to continue them,
// results with a button to show them. `acts` are open(entry) and resume(job).

class Shelf {
  constructor(element, library, acts) {
    Object.assign(this, { element, library, acts });
    const redraw = () => {
      if (element.isConnected) this.draw();
      else window.removeEventListener(LIBRARY_CHANGED, redraw);
    };
    window.addEventListener(LIBRARY_CHANGED, redraw);
    window.addEventListener("storage", redraw); // another tab
    // What runs in this tab cannot be continued.
    this.watching = new MutationObserver(redraw);
    this.watching.observe(document.body, { attributeFilter: ["data-lily-job"] });
  }

  draw() {
    const running = document.body.dataset.lilyJob;
    const jobs = this.library.jobs().filter((one) => one.job !== running);
    const results = this.library.all();
    this.element.hidden = !jobs.length && !results.length;
    // What was left unfinished is offered without being looked for.
    if (jobs.length > (this.offered ?? 0)) this.element.open = true;
    this.offered = jobs.length;
    this.element.querySelector("ul").replaceChildren(
      ...jobs.map((job) => this.job(job)),
      ...results.map((entry) => this.result(entry)),
    );
  }

  job(job) {
    const share = job.total ? `${job.done} of ${job.total} chunks done` : "not begun";
    const state = job.ended ? "unfinished" : "unfinished, or running in another tab";
    const about = made("span", `${job.name}, ${state}: ${share}`);
    const resume = made("button", "Continue");
    resume.type = "button";
    resume.setAttribute("aria-label", `Continue ${job.name}`);
    resume.disabled = Boolean(document.body.dataset.lilyJob);
    resume.addEventListener("click", () => this.acts.resume(job));
    return this.item([about, resume], job.name, () => this.library.forget(job.job));
  }

  result(entry) {
    const { name } = entry.value;
    const open = made("button", `${name}, ${new Date(entry.when).toLocaleString()}`);
    open.type = "button";
    open.addEventListener("click", () => this.acts.open(entry));
    return this.item([open], name, () => this.library.remove(entry.value.run));
  }

  item(parts, name, drop) {
    const item = document.createElement("li");
    const forget = made("button", "Forget");
    forget.type = "button";
    forget.setAttribute("aria-label", `Forget ${name}`);
    forget.addEventListener("click", drop);
    item.append(...parts, forget);
    return item;
  }
}
