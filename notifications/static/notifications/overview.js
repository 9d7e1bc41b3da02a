/* Draws the chart from the numbers on the page, and fetches the page anew while somebody looks. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const KEY = "notifications.overview.refresh";
  const every = document.getElementById("ntf-every");
  let chart = null;
  let timer = null;

  const style = (element, name) => getComputedStyle(element).getPropertyValue(name).trim();

  function tone(name) {
    const probe = document.createElement("i");
    probe.className = `ntf-${name}`;
    document.body.append(probe);
    const colour = style(probe, "--ntf-tone");
    probe.remove();
    return colour;
  }

  function draw() {
    const data = JSON.parse(document.getElementById("ntf-data").textContent);
    const canvas = document.getElementById("ntf-steps");
    if (chart) chart.destroy();
    chart = null;
    if (!canvas) return;  // nothing was asked for
    const words = style(document.body, "--body-quiet-color");
    const lines = style(document.body, "--hairline-color");
    canvas.parentElement.hidden = false;
    Chart.defaults.color = words;
    Chart.defaults.borderColor = lines;
    chart = new Chart(canvas, {
      type: "bar",
      data: {
        labels: data.labels,
        datasets: data.sets.map(({ label, tone: name, data: values }) =>
          ({ label, data: values, backgroundColor: tone(name), stack: "all" })),
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        scales: {
          x: { stacked: true, grid: { display: false }, ticks: { maxRotation: 0, autoSkipPadding: 12 } },
          y: { stacked: true, beginAtZero: true, ticks: { precision: 0 } },
        },
      },
    });
  }

  async function refresh() {
    const open = document.querySelector("#ntf-fresh details")?.open;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("ntf-fresh");
      if (!fresh) return;
      fresh.querySelector("details")?.toggleAttribute("open", Boolean(open));
      document.getElementById("ntf-fresh").replaceWith(fresh);
      draw();
    } catch {
      // The server is away: what is shown stays, and the next turn tries again.
    }
  }

  function plan() {
    clearTimeout(timer);
    const seconds = Number(every.value);
    if (!seconds || document.hidden) return;
    timer = setTimeout(async () => { await refresh(); plan(); }, seconds * 1000);
  }

  every.value = localStorage.getItem(KEY) || "0";
  every.closest("li").hidden = false;
  every.addEventListener("change", () => { localStorage.setItem(KEY, every.value); plan(); });
  document.addEventListener("visibilitychange", plan);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  draw();
  plan();
});
