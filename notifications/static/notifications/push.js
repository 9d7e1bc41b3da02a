// The switch that `{% notifications_push %}` draws: shown where the browser can be pushed to.
(() => {
  "use strict";
  const able = "serviceWorker" in navigator && "PushManager" in window;

  const bytes = (text) => {
    const padded = text.replace(/-/g, "+").replace(/_/g, "/") + "=".repeat(-text.length & 3);
    return Uint8Array.from(atob(padded), (each) => each.charCodeAt(0));
  };

  const post = (form, url, body) =>
    fetch(url, {
      method: "POST",
      credentials: "same-origin",
      headers: {
        "Content-Type": "application/json",
        "X-CSRFToken": form.querySelector("[name=csrfmiddlewaretoken]").value,
      },
      body: JSON.stringify(body),
    });

  const prepare = async (form) => {
    const { worker, subscribe, unsubscribe, key } = form.dataset;
    const button = form.querySelector("button");
    const said = form.querySelector("[role=status]");
    const registration = await navigator.serviceWorker.register(worker, { scope: "/" });

    const show = (subscription) => {
      button.textContent = subscription ? button.dataset.off : button.dataset.on;
      button.setAttribute("aria-pressed", String(Boolean(subscription)));
    };

    const turnOn = async () => {
      const subscription = await registration.pushManager.subscribe({
        userVisibleOnly: true,
        applicationServerKey: bytes(key),
      });
      const given = { ...subscription.toJSON(), applicationServerKey: key };
      const answer = await post(form, subscribe, given);
      if (!answer.ok) {
        await subscription.unsubscribe();
        throw new Error((await answer.json()).detail);
      }
    };

    const turnOff = async (subscription) => {
      await post(form, unsubscribe, { endpoint: subscription.endpoint });
      await subscription.unsubscribe();
    };

    // Services refuse what another key than the subscription's has signed.
    const isStale = (subscription) => {
      const used = subscription?.options?.applicationServerKey;
      return Boolean(used) && String(new Uint8Array(used)) !== String(bytes(key));
    };

    const renew = async (subscription) => {
      await turnOff(subscription);
      await turnOn();
    };

    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      said.textContent = "";
      button.disabled = true;
      try {
        const subscription = await registration.pushManager.getSubscription();
        await (subscription ? turnOff(subscription) : turnOn());
      } catch (error) {
        said.textContent = error.name === "NotAllowedError" ? form.dataset.denied : error.message;
      }
      button.disabled = false;
      show(await registration.pushManager.getSubscription());
    });
    const present = await registration.pushManager.getSubscription();
    if (isStale(present)) await renew(present).catch(() => {}); // the switch then shows it as off
    show(await registration.pushManager.getSubscription());
    form.hidden = false;
  };

  if (able) document.querySelectorAll("form[data-ntf-push]").forEach(prepare);
})();
