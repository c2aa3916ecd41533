"""Input from outside: questions, data sets, images, conversations, repair sets, untrusted text."""
