"""The extractive writer: it makes insights out of quotes, without a language model."""
