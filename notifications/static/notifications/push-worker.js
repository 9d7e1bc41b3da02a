// Shows what is pushed, and opens its link when it is clicked.
"use strict";

self.addEventListener("push", (event) => {
  let message = {};
  try {
    message = event.data ? event.data.json() : {};
  } catch {
    message = { title: event.data.text() };
  }
  const shown = self.registration.showNotification(message.title || "", {
    body: message.text || "",
    tag: message.id ? `notification-${message.id}` : undefined, // sent twice, shown once
    data: { link: message.link || "/" },
  });
  event.waitUntil(shown);
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const link = new URL(event.notification.data.link, self.location.origin);
  event.waitUntil(self.clients.openWindow(link.href));
});
