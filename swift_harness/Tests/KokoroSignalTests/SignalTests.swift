import KokoroBundle
import XCTest

@testable import KokoroSignal

final class SpeechTests: XCTestCase {
    private func part(_ phonemes: String, durations: [Int32]) -> SpokenPart {
        let frames = durations.reduce(0) { $0 + Int($1) }
        return SpokenPart(
            phonemes: phonemes, samples: Array(repeating: 0.5, count: frames * 600),
            durations: durations, bucket: Bucket(tokens: 16, frames: 40))
    }

    func testPartsFollowOneAnotherWithoutAGap() throws {
        let speech = try Speech(
            joining: [part("a", durations: [1, 2, 1]), part("bc", durations: [0, 1, 1, 2])],
            sampleRate: 24_000, samplesPerFrame: 600)
        XCTAssertEqual(speech.seconds, 0.2)
        XCTAssertEqual(speech.durations, [1, 2, 1, 0, 1, 1, 2])
        XCTAssertEqual(speech.timestamps.last?.end ?? 0, speech.seconds, accuracy: 1e-12)
        for (mark, next) in zip(speech.timestamps, speech.timestamps.dropFirst()) {
            XCTAssertEqual(mark.end, next.start)
        }
    }

    func testNoPartsAndDurationsThatDoNotMatchAreRefused() {
        let wrong = part("ab", durations: [1, 2, 3])
        for parts in [[], [wrong]] {
            XCTAssertThrowsError(
                try Speech(joining: parts, sampleRate: 24_000, samplesPerFrame: 600)
            ) { XCTAssertEqual(($0 as? KokoroError)?.exitCode, 2) }
        }
    }
}

final class AlignmentTests: XCTestCase {
    func testTheMatrixHasOneRowPerTokenAndOneTokenPerFrame() throws {
        let alignment = try Alignment(durations: [1, 0, 2, 0], frames: 4)
        XCTAssertEqual(
            alignment.matrix(), [1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0])
    }

    func testNegativeDurationsAndFramesAreRefused() {
        for (durations, frames) in [([1, -1], 4), ([1], -1)] as [([Int32], Int)] {
            XCTAssertThrowsError(try Alignment(durations: durations, frames: frames)) {
                XCTAssertEqual(($0 as? KokoroError)?.exitCode, 2)
            }
        }
    }
}

final class LevelsTests: XCTestCase {
    func testEqualAudioIsInfinitelyFarFromNoise() throws {
        let audio: [Float] = [0.5, -0.25]
        XCTAssertEqual(try Levels.signalToNoiseDB(reference: audio, candidate: audio), .infinity)
        XCTAssertEqual(
            try Levels.openingErrorDB(reference: audio, candidate: audio, sampleRate: 24_000),
            -.infinity)
        XCTAssertEqual(
            try Levels.signalToNoiseDB(reference: [0, 0], candidate: audio), -.infinity)
    }

    func testSilenceHasNoLevel() {
        XCTAssertEqual(Levels.rootMeanSquareDB([0, 0]), -.infinity)
        XCTAssertEqual(Levels.differenceDB(reference: [0], candidate: [0]), 0)
        XCTAssertEqual(Levels.differenceDB(reference: [0], candidate: [1]), .infinity)
        XCTAssertEqual(Levels.peak([]), 0)
    }

    func testNotANumberIsNotHidden() throws {
        let wrong: [Float] = [0, .nan, 1]
        XCTAssert(Levels.peak(wrong).isNaN)
        XCTAssert(Levels.rootMeanSquareDB(wrong).isNaN)
        XCTAssert(try Levels.signalToNoiseDB(reference: [1, 1, 1], candidate: wrong).isNaN)
        XCTAssert(
            try Levels.tailErrorDB(reference: [1, 1, 1], candidate: wrong, sampleRate: 24_000).isNaN
        )
    }

    func testOpeningAndTailAreMeasuredApart() throws {
        let reference = [Float](repeating: 1, count: 100)
        var candidate = reference
        candidate[2] = 0
        let opening = try Levels.openingErrorDB(
            reference: reference, candidate: candidate, sampleRate: 100)
        let tail = try Levels.tailErrorDB(
            reference: reference, candidate: candidate, sampleRate: 100)
        XCTAssertEqual(opening, 10 * log10(1 / 5), accuracy: 1e-12)
        XCTAssertEqual(tail, -.infinity)
    }

    func testAudioOfAnotherLengthIsNotCompared() {
        XCTAssertThrowsError(try Levels.signalToNoiseDB(reference: [1], candidate: [1, 1])) {
            XCTAssertEqual(($0 as? KokoroError)?.exitCode, 2)
        }
    }

    func testDurationsThatDifferAreCounted() {
        XCTAssertEqual(Levels.durationErrors(reference: [1, 2, 3], candidate: [1, 3, 2]), 2)
        XCTAssertEqual(Levels.durationErrors(reference: [1, 2], candidate: [1, 2, 3]), 3)
    }
}
