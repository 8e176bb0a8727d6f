// Shows what is new every few seconds. Without it, reloading the page does the same.
"use strict";
(() => {
  const every = 4000;
  const main = document.querySelector("main[data-live]");
  const status = document.getElementById("status");
  if (!main || !window.fetch) return;

  const button = document.createElement("button");
  button.type = "button";
  button.className = "pause";
  let paused = false;
  const label = () => {
    button.textContent = paused ? "Resume" : "Pause";
    button.setAttribute("aria-pressed", String(paused));
    button.title = paused ? "Refresh this page by itself again" : "Stop refreshing this page by itself";
  };
  label();
  button.addEventListener("click", () => { paused = !paused; label(); });
  status.after(button);

  // What somebody is using is left alone: a field with text in it, an open detail, a
  // selection.
  const busy = () => {
    const at = document.activeElement;
    if (at && main.contains(at) && /^(INPUT|SELECT|BUTTON|SUMMARY)$/.test(at.tagName)) return true;
    if (main.querySelector("details[open]")) return true;
    const chosen = document.getSelection();
    return chosen && !chosen.isCollapsed && main.contains(chosen.anchorNode);
  };

  const refresh = async () => {
    if (paused || document.hidden || busy()) return;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = page.getElementById("main");
      if (!next) throw new Error("no page");
      status.textContent = page.getElementById("status").textContent;
      status.classList.toggle("lost", !answer.ok);
      if (busy() || next.innerHTML === main.innerHTML) return;
      const scrolled = [...main.querySelectorAll("[tabindex], .panel")].map((e) => [e.scrollLeft, e.scrollTop]);
      const at = document.activeElement && main.contains(document.activeElement) ? document.activeElement : null;
      const href = at && at.getAttribute("href");
      main.replaceChildren(...next.childNodes);
      [...main.querySelectorAll("[tabindex], .panel")].forEach((e, i) => {
        if (scrolled[i]) [e.scrollLeft, e.scrollTop] = scrolled[i];
      });
      if (href) {
        const same = [...main.querySelectorAll("a")].find((a) => a.getAttribute("href") === href);
        if (same) same.focus({ preventScroll: true });
      }
    } catch {
      status.textContent = "the page is not served any more; what is shown is old";
      status.classList.add("lost");
    }
  };
  setInterval(refresh, every);
  document.addEventListener("visibilitychange", refresh);
})();
