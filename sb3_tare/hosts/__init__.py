"""One adapter for each kind of algorithm whose policy a learned reward can train."""
