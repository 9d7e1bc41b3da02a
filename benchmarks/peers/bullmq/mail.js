"use strict";
// The words of the confirmation, as functions: no template engine is faster.

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;" };
const escape = (value) => String(value).replace(/[&<>"']/g, (character) => escapes[character]);

exports.values = (number) => ({
  number: `A-${String(number).padStart(6, "0")}`,
  name: `Customer ${number}`,
  items: [
    { name: "Green tea, 100 g", price: "7.90", quantity: 2 },
    { name: "Cast-iron kettle", price: "49.00", quantity: 1 },
  ],
  total: "64.80",
});

const text = ({ number, name, items, total }) => `Hello ${name},

thank you for your order ${number}.

${items.map((item) => `${item.quantity} x ${item.name}, ${item.price} EUR each\n`).join("")}
Total: ${total} EUR

You will hear from us when it is on its way.
`;

const row = ({ name, quantity, price }) =>
  `<tr><td>${escape(name)}</td><td>${escape(quantity)}</td><td>${escape(price)} EUR</td></tr>\n`;

const html = ({ number, name, items, total }) => `<!DOCTYPE html>
<html lang="en">
<body>
<h1>Thank you, ${escape(name)}</h1>
<p>We have your order <strong>${escape(number)}</strong>.</p>
<table>
<tr><th>Item</th><th>Quantity</th><th>Price</th></tr>
${items.map(row).join("")}<tr><td colspan="2">Total</td><td>${escape(total)} EUR</td></tr>
</table>
<p>You will hear from us when it is on its way.</p>
</body>
</html>
`;

exports.message = ({ to, values }) => ({
  from: "Shop <shop@example.com>",
  to,
  subject: `Your order ${values.number}`,
  text: text(values),
  html: html(values),
});
