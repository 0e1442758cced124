"""From recordings to text: samples, the windows that a model hears, the tokens or frames that it says of them."""
