"use strict";

// Swagger UI over the document of this site; what is tried goes out with the session's CSRF token.
const page = document.getElementById("api");
window.SwaggerUIBundle({
  url: page.dataset.schema,
  domNode: page,
  deepLinking: true,
  requestInterceptor: (request) => {
    request.headers["X-CSRFToken"] = page.dataset.token;
    return request;
  },
});
