// The bell says what is unread without a reload, and a message that is followed is marked read.
// Both are extras: links and forms do all of it without scripts.
(() => {
  "use strict";
  if (window.notificationsBell) return;
  window.notificationsBell = true;

  const PERIOD = 30_000; // milliseconds between looks, while the page is seen
  const bells = document.querySelectorAll(".ntf-bell[data-unread]");
  let timer = 0;
  let known = null;

  const show = ({ unread, short, label }) => {
    for (const bell of bells) {
      bell.setAttribute("aria-label", label);
      const count = bell.querySelector(".ntf-count");
      count.textContent = short;
      count.hidden = !unread;
    }
    if (known !== null && unread > known) {
      for (const said of document.querySelectorAll(".ntf-said")) said.textContent = label;
    }
    known = unread;
    document.dispatchEvent(new CustomEvent("notifications:unread", { detail: { unread } }));
  };

  const look = async () => {
    clearTimeout(timer);
    if (document.hidden || !bells.length) return;
    try {
      const answer = await fetch(bells[0].dataset.unread, {
        headers: { Accept: "application/json" },
        credentials: "same-origin",
      });
      if (answer.status === 401) return; // logged out: look no more
      if (answer.ok) show(await answer.json());
    } catch {
      // The network is away; it is asked again.
    }
    clearTimeout(timer);
    timer = setTimeout(look, PERIOD);
  };

  document.addEventListener("visibilitychange", look);
  window.addEventListener("pageshow", look);

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-marks-read]");
    const form = link && document.getElementById(link.dataset.marksRead);
    if (!form) return;
    const told = fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
      credentials: "same-origin",
      keepalive: true, // the page may be left meanwhile
    }).catch(() => {});
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    // The next page's bell shall count it as read; but nobody waits long for that.
    event.preventDefault();
    const patience = new Promise((done) => setTimeout(done, 500));
    Promise.race([told, patience]).then(() => location.assign(link.href));
  });
})();
