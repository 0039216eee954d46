"""Pages for people: server-rendered, readable without JavaScript, nothing loaded from elsewhere."""
