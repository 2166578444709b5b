"""Makes transcripts: plans the chunks of sound, sends them to the speech service, and assembles the answers."""
